"""Pickles read without running them: what is not a plain value becomes an inert `Record`.

Unpickling calls what a file names, so a foreign file can run anything. Here the operations of the format are followed
one by one, and no class is looked up, nothing imported and nothing called: an object is the name of its class with
the arguments and the state that the file gives it.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any

from sdediff.bridges.errors import BridgeError

# Operations of one pickle; that of a large network has about a hundred thousand.
_MOST = 5_000_000
_MARK = object()
_PLAIN = (str, int, float, bytes, bool, type(None))


class Record:
    """An object of a pickle: `name`, module.class, called with `args` and `kwargs`; then `state`, `items`, `pairs`.

    items: what was appended or added to it; pairs: what was set by key. A class or function alone has args None.
    """

    __slots__ = ("args", "items", "kwargs", "name", "pairs", "state")

    def __init__(self, name: str, args: tuple[Any, ...] | None = None, kwargs: dict[Any, Any] | None = None) -> None:
        self.name, self.args, self.kwargs = name, args, kwargs or {}
        self.state: Any = None
        self.items: list[Any] = []
        self.pairs: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<{self.name}{'' if self.args is None else '(...)'}>"


def read_pickle(content: bytes, where: str, most: int = _MOST) -> tuple[Any, int]:
    """The value of a pickle and the number of bytes that it takes. Runs nothing.

    Tensors and other objects are Records, a persistent id is Record("persistent", (id,)). Raises BridgeError, with
    `where` in it: what is no pickle, is cut short, has more than `most` operations, or keys that are no plain values.
    """
    machine, end = _Machine(), 0
    try:
        for count, (code, argument, place) in enumerate(pickletools.genops(io.BytesIO(content))):
            if count > most:
                raise BridgeError(f"{where}: more than {most} operations, which no checkpoint needs")
            machine.step(code.name, argument)
            end = (place or 0) + 1
    except BridgeError as error:
        raise error if str(error).startswith(where) else BridgeError(f"{where}: {error}") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, AttributeError) as error:
        reason = type(error).__name__
        raise BridgeError(f"{where}: no pickle, or a damaged one ({reason}): copy or download it again") from error
    return machine.result, end


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None

    def step(self, code: str, argument: Any) -> None:
        if code in _CONSTANTS:
            self.stack.append(_CONSTANTS[code]())
        elif code in _ARGUMENTS:
            self.stack.append(argument)
        elif code in _ACTIONS:
            _ACTIONS[code](self, argument)
        elif code not in ("PROTO", "FRAME"):
            raise BridgeError(f"the operation {code} of its pickle is not read here")

    def marked(self) -> list[Any]:
        """What lies above the topmost mark, which goes."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise BridgeError("its pickle lacks a mark: copy or download it again")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values


def _key(value: Any) -> Any:
    """A key of a dictionary, or an entry of a set: plain, since to hash a tuple of tuples may take for ever."""
    if isinstance(value, (*_PLAIN, Record)) or (isinstance(value, tuple) and all(isinstance(v, _PLAIN) for v in value)):
        return value
    raise BridgeError(f"a {type(value).__name__} is the key of a dictionary in its pickle")


def _dict(values: list[Any]) -> dict[Any, Any]:
    return {_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _called(function: Any, args: Any, kwargs: Any = None) -> Record:
    """What a call would give: its name and arguments."""
    if isinstance(function, Record) and function.name == "persistent" and function.args:
        # Old files of torch.save keep a class of modules as ("module", class, file, source).
        function = (function.args[0][1:2] or [function])[0] if isinstance(function.args[0], tuple) else function
    name = function.name if isinstance(function, Record) else f"a {type(function).__name__}"
    if name.endswith(("._reconstructor", ".__newobj__")) and args and isinstance(args[0], Record):
        name = args[0].name  # copyreg's way to write an object of a class
    if not isinstance(args, tuple) or not isinstance(kwargs or {}, dict):
        raise BridgeError("its pickle calls a class with arguments that are no tuple: copy or download it again")
    return Record(name, args, kwargs)


def _reduce(m: _Machine, _: Any) -> None:
    args = m.stack.pop()
    made = _called(m.stack.pop(), args)
    # Before protocol 3 bytes are text that is to be encoded.
    coded = made.name == "_codecs.encode" and len(args) == 2 and isinstance(args[0], str) and args[1] == "latin1"
    m.stack.append(args[0].encode("latin1") if coded else made)


def _newobj_ex(m: _Machine, _: Any) -> None:
    kwargs, args = m.stack.pop(), m.stack.pop()
    m.stack.append(_called(m.stack.pop(), args, kwargs))


def _obj(m: _Machine, _: Any) -> None:
    function, *args = m.marked()
    m.stack.append(_called(function, tuple(args)))


def _build(m: _Machine, _: Any) -> None:
    state = m.stack.pop()
    if not isinstance(m.stack[-1], Record):
        raise BridgeError(f"its pickle sets the state of a {type(m.stack[-1]).__name__}")
    m.stack[-1].state = state


def _append(m: _Machine, values: list[Any]) -> None:
    target = m.stack[-1]
    if not isinstance(target, list | Record):
        raise BridgeError(f"its pickle appends to a {type(target).__name__}: copy or download it again")
    (target if isinstance(target, list) else target.items).extend(values)


def _set_items(m: _Machine, values: list[Any]) -> None:
    target = m.stack[-1]
    if not isinstance(target, dict | Record):
        raise BridgeError(f"its pickle sets items of a {type(target).__name__}: copy or download it again")
    (target if isinstance(target, dict) else target.pairs).update(_dict(values))


def _add_items(m: _Machine, values: list[Any]) -> None:
    target = m.stack[-1]
    if isinstance(target, Record):
        target.items.extend(values)
    else:
        target.update(map(_key, values))


def _tuple(m: _Machine, size: int) -> None:
    values = tuple(m.stack[len(m.stack) - size :])
    if len(values) != size:
        raise BridgeError("its pickle ends before a tuple: copy or download it again")
    del m.stack[len(m.stack) - size :]
    m.stack.append(values)


def _stack_global(m: _Machine, _: Any) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise BridgeError("its pickle names a class by what is no text: copy or download it again")
    m.stack.append(Record(f"{module}.{name}"))


def _stop(m: _Machine, _: Any) -> None:
    m.result = m.stack.pop()


def _pushed(make: Callable[[_Machine, Any], Any]) -> Callable[[_Machine, Any], None]:
    return lambda m, argument: m.stack.append(make(m, argument))


def _remembered(m: _Machine, argument: Any) -> None:
    m.memo[len(m.memo) if argument is None else int(argument)] = m.stack[-1]


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}
_ARGUMENTS = frozenset(
    (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
        "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE",
        "BINUNICODE", "BINUNICODE8",
    )
)  # fmt: skip
_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "GLOBAL": _pushed(lambda m, a: Record(str(a).replace(" ", "."))),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _newobj_ex,
    "OBJ": _obj,
    "INST": _pushed(lambda m, a: Record(str(a).replace(" ", "."), tuple(m.marked()))),
    "BUILD": _build,
    "PERSID": _pushed(lambda m, a: Record("persistent", (a,))),
    "BINPERSID": _pushed(lambda m, a: Record("persistent", (m.stack.pop(),))),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _pushed(lambda m, a: Record(f"copyreg.extension_{a}"))),
    "APPEND": lambda m, a: _append(m, [m.stack.pop()]),
    "APPENDS": lambda m, a: _append(m, m.marked()),
    "SETITEM": lambda m, a: _set_items(m, [m.stack.pop(), m.stack.pop()][::-1]),
    "SETITEMS": lambda m, a: _set_items(m, m.marked()),
    "ADDITEMS": lambda m, a: _add_items(m, m.marked()),
    "LIST": _pushed(lambda m, a: m.marked()),
    "TUPLE": _pushed(lambda m, a: tuple(m.marked())),
    "DICT": _pushed(lambda m, a: _dict(m.marked())),
    "FROZENSET": _pushed(lambda m, a: frozenset(map(_key, m.marked()))),
    "TUPLE1": lambda m, a: _tuple(m, 1),
    "TUPLE2": lambda m, a: _tuple(m, 2),
    "TUPLE3": lambda m, a: _tuple(m, 3),
    "POP": lambda m, a: m.stack.__delitem__(-1),
    "POP_MARK": lambda m, a: m.marked(),
    "DUP": _pushed(lambda m, a: m.stack[-1]),
    "PUT": _remembered,
    "BINPUT": _remembered,
    "LONG_BINPUT": _remembered,
    "MEMOIZE": _remembered,
    "GET": _pushed(lambda m, a: m.memo[int(a)]),
    "BINGET": _pushed(lambda m, a: m.memo[int(a)]),
    "LONG_BINGET": _pushed(lambda m, a: m.memo[int(a)]),
    "STOP": _stop,
}
