"""What a network returns beside a plain tensor: tuples, dictionaries and dataclasses, and which part of them is F."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.suggestions import hint
from sdediff.model.prediction import ModelError


def plain_output(output: Any) -> Any:
    """A tensor or a tuple of what a network returned, where that is clear; else the output as it is.

    An object's `sample` (diffusers), the one tensor of a dictionary or a dataclass, a list as a tuple.
    """
    if isinstance(output, Tensor | tuple):
        return output
    if isinstance(output, list):
        return tuple(output)
    fields = _fields(output)
    sample = fields.get("sample") if "sample" in fields else getattr(output, "sample", None)
    if isinstance(sample, Tensor | tuple):
        return sample
    tensors = [value for value in fields.values() if isinstance(value, Tensor)]
    return tensors[0] if len(tensors) == 1 else output


def choosing(net: Callable[..., Any], part: str | int) -> Callable[..., Any]:
    """The network with one part of its output alone: a key, an attribute or an index."""

    def chosen(x: Tensor, clock: Tensor, **cond: Any) -> Any:
        return _part(net(x, clock, **cond), part)

    return chosen


def checked_output(output: Any, x: Tensor) -> tuple[Tensor, Any]:
    """F and what came with it, checked against the state."""
    extra = None
    if not isinstance(output, Tensor):
        output = plain_output(output)
        if isinstance(output, tuple) and output:
            output, extra = output[0], output[1:]
    if not isinstance(output, Tensor):
        raise _refused(output, x.shape)
    if output.shape != x.shape:
        if output.ndim == x.ndim > 1 and output.shape[1] == 2 * x.shape[1] and output.shape[0] == x.shape[0]:
            output, extra = output.split(x.shape[1], dim=1)
        else:
            raise ModelError(f"the network returned shape {tuple(output.shape)} for states {tuple(x.shape)}")
    if not output.is_floating_point():
        raise ModelError(
            f"the network returned {output.dtype} numbers, which have no gradient and no fractions: needed are "
            f"floating-point ones like the states, {x.dtype}"
        )
    if output.dtype != x.dtype:
        if torch.promote_types(output.dtype, x.dtype) != x.dtype:
            raise ModelError(f"the network returned {output.dtype} for {x.dtype} states: cast one of them")
        output = output.to(x.dtype)
    return output, extra


def _refused(output: Any, shape: Any) -> ModelError:
    """The refusal of an output in which F is not to be found."""
    needed = f"needed: a tensor of shape {tuple(shape)}"
    names = [name for name, value in _fields(output).items() if isinstance(value, Tensor)]
    if names:
        return ModelError(
            f"the network returned {type(output).__name__} with {', '.join(names)}, {needed}: say which by "
            f'ScoreModel(..., output="{names[0]}")'
        )
    return ModelError(f"the network returned {type(output).__name__}, {needed}")


def _part(output: Any, part: str | int) -> Any:
    fields = _fields(output)
    try:
        if isinstance(part, int) and not isinstance(output, Mapping):
            return output[part]
        return fields[part] if part in fields else getattr(output, str(part))
    except (IndexError, AttributeError, TypeError, KeyError):
        kind, names = type(output).__name__, [str(name) for name in fields]
        have = (
            f" with {', '.join(names)}" if names else f" of length {len(output)}" if hasattr(output, "__len__") else ""
        )
        near = hint(part, names) if isinstance(part, str) and names else ""
        raise ModelError(f"the network returned {kind}{have}, which has no output {part!r}{near}") from None


def _fields(output: Any) -> dict[Any, Any]:
    """The named parts of a dictionary, a dataclass, a named tuple or a plain object."""
    if isinstance(output, Mapping):
        return dict(output)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name, None) for field in dataclasses.fields(output)}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    return dict(getattr(output, "__dict__", {})) if not isinstance(output, Tensor) else {}
