"""The types of a network's input and clock, where it does not take the states' as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff.model.outputs import plain_output
from sdediff.model.prediction import ModelError

HALF = (torch.float16, torch.bfloat16)
# The states' type where a narrower one is asked for: the network's input and output are cast.
WIDER = dict.fromkeys(HALF, torch.float32)
Types = tuple[torch.dtype | None, torch.dtype | None]
# How far a clock may move where it is cast.
_CLOCK_ERROR = 0.01


def attempts(x: Tensor, clock: Tensor, kinds: tuple[torch.dtype, ...]) -> list[Types]:
    """Types of input and clock to try in turn, None for as they are, for a network with parameters of `kinds`.

    A clock of whole numbers stays one. Half precision does not tell the training times of a table from each other, so
    clocks are float32 where the network takes them.
    """
    floats = clock.is_floating_point()
    others = [pair for kind in kinds if kind != x.dtype for pair in (_pairs(kind) if floats else [(kind, None)])]
    certain = len(kinds) == 1 and (kinds[0] in HALF or kinds[0] is torch.float64)
    return others if others and certain else [(None, None), *others]


def _pairs(kind: torch.dtype) -> list[Types]:
    return [(kind, torch.float32), (kind, kind)] if kind in HALF else [(kind, kind)]


def fit(
    net: Callable[..., Any], x: Tensor, clock: Tensor, cond: dict[str, Any], tries: list[Types]
) -> tuple[Any, Types, Tensor, Tensor]:
    """The output at the first types that the network takes, those types, and the tensors that it was given."""
    for types in tries:
        given, read = cast(x.clone(), clock.clone(), types)
        try:
            return net(given, read, **cond), types, given, read
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if _asks_integers(error) or types == tries[-1]:
                return fit_integers(net, x, clock, cond, error, types[0])
    raise ModelError("no types of input and clock to try")


def fit_integers(
    net: Callable[..., Any], x: Tensor, clock: Tensor, cond: dict[str, Any], error: Exception, kind: torch.dtype | None
) -> tuple[Any, Types, Tensor, Tensor]:
    """`fit` with an integer clock, where that is what the error asks for."""
    if not _asks_integers(error):
        raise error
    if not bool((clock == clock.round()).all()):
        raise _not_whole(clock[(clock != clock.round()).nonzero()[0]].item()) from error
    given, read = cast(x.clone(), clock.clone(), (kind, torch.int64))
    return net(given, read, **cond), (kind, torch.int64), given, read


def _asks_integers(error: Exception) -> bool:
    """Whether the error is an index's of the wrong type."""
    said = str(error)
    return ("Long" in said and "scalar type" in said) or "tensors used as indices" in said or "int64" in said


def _not_whole(reading: float) -> ModelError:
    return ModelError(
        f"the network looks its clock up as an integer, and the clock reads {reading:.6g}: write "
        'time=sd.Clock("t", 999, whole=True) with the number of its entries, or give the index of a Table'
    )


def cast(x: Tensor, clock: Tensor, types: Types) -> tuple[Tensor, Tensor]:
    """x and clock of the types; a clock that would move by more than 1 % is refused."""
    kind, reading = types
    x = x if kind is None else x.to(kind)
    if reading is None or reading == clock.dtype:
        return x, clock
    read = clock.round().to(reading) if reading is torch.int64 else clock.to(reading)
    error = (read.to(clock.dtype) - clock).abs()
    if not bool((error <= _CLOCK_ERROR * clock.abs()).all()):
        if reading is torch.int64:
            raise _not_whole(clock[int(error.argmax())].item())
        worst = clock[int((error / clock.abs()).nan_to_num(torch.inf).argmax())].item()
        raise ModelError(
            f"the clock reads {worst:.6g}, which {reading} does not hold within 1 %: choose another clock (time=), or "
            "cast it inside the network"
        )
    return x, read


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors of a network's output: a tensor, a tuple of them, or what `plain_output` reads."""
    output = plain_output(output)
    return [v for v in (output if isinstance(output, tuple) else (output,)) if isinstance(v, Tensor)]


def ours(output: Any, dtype: torch.dtype | None) -> Any:
    """The output in fresh memory, in a type if one is given; what is neither a tensor nor holds one as it is."""
    output = plain_output(output)
    if isinstance(output, tuple):
        return tuple(ours(v, dtype if v.is_floating_point() else None) if isinstance(v, Tensor) else v for v in output)
    if not isinstance(output, Tensor):
        return output
    return output.clone() if dtype is None else output.to(dtype, copy=True)


def apart(output: Any, other: Any) -> bool:
    """Whether two outputs that are both alive lie in different memory."""
    try:
        places = [{v.untyped_storage().data_ptr() for v in tensors_of(o)} for o in (output, other)]
    except RuntimeError:
        return False
    return not places[0] & places[1]


def versions_of(cond: dict[str, Any]) -> dict[str, int]:
    """How often the tensors among the conditions were written to."""
    return {k: v._version for k, v in cond.items() if isinstance(v, Tensor) and not v.is_inference()}
