"""What a callable that is no module holds: partials, methods, functions with their closures and globals, objects."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# At how many objects a search looks, in all and in one container.
MOST = 500
HOLDS_NOTHING = (Tensor, str, bytes, int, float, complex, type, types.ModuleType, torch.device, torch.dtype)


def held(value: Any, names: frozenset[str], depth: int) -> Iterator[tuple[Any, frozenset[str], int]]:
    """What a partial, a method, a function, a container or an object holds; of an object, what its code names."""
    if isinstance(value, functools.partial):
        yield from ((v, names, depth) for v in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, types.MethodType):
        yield from of_function(value.__func__, depth)
        yield value.__self__, names | _names(value.__func__), depth
    elif isinstance(value, types.FunctionType):
        yield from of_function(value, depth)
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((v, names, depth) for v in list(value)[:MOST])
    elif isinstance(value, dict):
        yield from ((v, names, depth) for v in list(value.values())[:MOST])
    else:
        call = getattr(type(value), "__call__", None)  # noqa: B004
        named = names | _names(call)
        if isinstance(call, types.FunctionType):
            yield from of_function(call, depth)
        for name in named:
            method = getattr(type(value), name, None)
            if isinstance(method, types.FunctionType | property):
                function = method.fget if isinstance(method, property) else method
                named |= _names(function)
                yield from of_function(function, depth)
        attributes = {n: getattr(value, n, None) for n in named if n in getattr(type(value), "__slots__", ())}
        attributes |= getattr(value, "__dict__", {})
        seen_all = not isinstance(call, types.FunctionType) and not names
        yield from ((v, named, depth) for n, v in attributes.items() if seen_all or n in named)


def of_function(function: Any, depth: int) -> Iterator[tuple[Any, frozenset[str], int]]:
    """What a function's closure, defaults and attributes hold, and the globals that its code loads."""
    if not isinstance(function, types.FunctionType):
        return
    names = _names(function)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents, names, depth
        except ValueError:  # a name that has no value yet
            continue
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values())
    yield from ((v, names, depth) for v in defaults)
    reached = {name: function.__globals__[name] for name in names if name in function.__globals__}
    reached = {name: v for name, v in reached.items() if _may_hold(v, function)}
    if reached:
        loaded = {i.argval for code in _codes(function.__code__) for i in dis.get_instructions(code)
                  if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}  # fmt: skip
        yield from ((v, names, depth) for name, v in reached.items() if name in loaded)


def _may_hold(value: Any, function: types.FunctionType) -> bool:
    """Whether a global is worth a look: functions of other files are libraries' in the main."""
    if isinstance(value, types.FunctionType):
        return value.__module__ == function.__module__
    return not isinstance(value, (*HOLDS_NOTHING, types.BuiltinFunctionType)) and value is not None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def _names(function: Any) -> frozenset[str]:
    code = getattr(function, "__code__", None)
    return frozenset(name for c in _codes(code) for name in c.co_names) if code is not None else frozenset()
