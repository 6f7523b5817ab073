"""Checks of arguments where public functions take them: each returns the value in its plain type, or refuses it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.tensors import finite

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def shown(value: Any) -> str:
    """A value in a message: short, and of a tensor its kind alone."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{type(value).__name__} {value.dtype} of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole(name: str, value: Any, least: int | None = None) -> int:
    """A whole number as an int, NumPy's included; booleans, fractions and other types are refused."""
    if isinstance(value, bool | np.bool_ | float | np.floating):
        raise InputError(f"{name}={value!r}: give a whole number")
    if not isinstance(value, int | np.integer):
        raise InputTypeError(f"{name}={shown(value)} is a {type(value).__name__}: give a whole number")
    if least is not None and value < least:
        raise InputError(f"{name}={value}: at least {least} is needed")
    return int(value)


def number(name: str, value: Any, such_as: str = "") -> float:
    """A finite real number as a float, NumPy's and 0-d tensors included."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0 and value.dtype not in (torch.bool, np.dtype(bool)):
        value = value.item() if not isinstance(value, Tensor) or not value.is_meta else value
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputTypeError(f"{name}={shown(value)} is a {type(value).__name__}: give a real number")
    if not math.isfinite(value):
        raise InputError(f"{name}={value}: give a finite number{such_as and ', such as '}{such_as}")
    return float(value)


def sizes(least: int, most: int = 1 << 20, **values: Any) -> None:
    """Refuse sizes of a network that are no whole numbers from `least` to `most`."""
    for name, value in values.items():
        if whole(name, value, least) > most:
            raise InputError(f"{name}={value}: at most {most} is possible")


def known(value: Any, names: Collection[str]) -> bool:
    """Whether a value is one of the names; what is no text, an array say, is none."""
    return isinstance(value, str) and value in names


def flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise InputTypeError(f"{name}={shown(value)}: write True or False")


def is_list(value: Any) -> bool:
    """Whether a value has entries in an order: a list, a tuple, a range or an array, and no text."""
    if isinstance(value, np.ndarray | Tensor):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def listed(name: str, value: Any, such_as: str) -> tuple[Any, ...]:
    """The entries of a list; refuses all else."""
    if not is_list(value):
        raise InputTypeError(f"{name}={shown(value)}: give a list, such as {name}={such_as}")
    return tuple(value)


def mapping(name: str, value: Any, such_as: str) -> None:
    """Refuse what is no dict."""
    if not isinstance(value, Mapping):
        raise InputTypeError(f"{name}={shown(value)}: give a dict, such as {such_as}")


def function(name: str, value: Any, arguments: int) -> None:
    """Refuse what cannot be called with so many arguments; callables that do not say what they take pass."""
    many = f"{arguments} argument{'s' * (arguments > 1)}"
    if not callable(value):
        raise InputTypeError(f"{name}={shown(value)} is no function: give one of {many}")
    try:
        inspect.signature(value).bind(*[None] * arguments)
    except TypeError as error:
        raise InputTypeError(f"{name}={shown(value)} does not take the {many} it is called with ({error})") from error
    except ValueError:  # of the interpreter's own, without a signature
        return


def state_dtype(dtype: Any) -> None:
    """Refuse a dtype that states cannot have."""
    if not isinstance(dtype, torch.dtype) or dtype not in DTYPES:
        raise InputTypeError(f"dtype={shown(dtype)}: states are floating-point, write torch.float32 or torch.float64")


def state_device(device: Any) -> torch.device:
    """A device that exists and holds numbers."""
    try:
        found = torch.device(device)
        if found.type != "meta":
            torch.empty(0, device=found)
    except Exception as error:
        raise InputError(f"device={shown(device)} cannot be used here ({_first_line(error)}): write 'cpu'") from error
    if found.type == "meta":
        raise InputError("device='meta' holds no numbers: write 'cpu' or a device of this machine")
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def pair(name: str, value: Any) -> tuple[float, float]:
    """Two rising numbers, low and high."""
    if not is_list(value) or len(value) != 2:
        raise InputTypeError(f"{name}={shown(value)}: give two numbers, low and high, such as (-1.0, 1.0)")
    low, high = (number(f"{name}[{i}]", end) for i, end in enumerate(value))
    if not low < high:
        raise InputError(f"{name}={shown(value)}: give two numbers, low before high, such as (-1.0, 1.0)")
    return low, high


def state_shape(shape: Any) -> tuple[int, ...]:
    """A shape (B, ...) of at least two whole numbers, each at least 1."""
    if not is_list(shape) or isinstance(shape, Tensor):
        raise InputTypeError(f"shape={shown(shape)}: give whole numbers, the batch first, e.g. (64, 1, 8, 8)")
    sizes = tuple(whole(f"shape[{i}]", size) for i, size in enumerate(shape))
    if len(sizes) < 2 or min(sizes) < 1:
        raise InputError(f"shape={sizes}: needed are a batch size and at least one dimension, all positive")
    if math.prod(sizes) > 1 << 40:
        raise InputError(f"shape={sizes} is more than any machine holds: sample in batches, by index")
    return sizes


def states(name: str, x: Any) -> Tensor:
    """States (B, ...): a floating-point tensor, not empty, whose numbers are finite."""
    if not isinstance(x, Tensor):
        hint = f"write torch.as_tensor({name})" if isinstance(x, np.ndarray | list | tuple) else "see the docstring"
        raise InputTypeError(f"{name} is a {type(x).__name__}, needed is a tensor of states (B, ...): {hint}")
    if x.is_meta or x.layout is not torch.strided:
        raise InputError(f"{name} is a tensor without plain numbers (device {x.device}, {x.layout}): give a dense one")
    if x.dtype not in DTYPES:
        raise InputTypeError(
            f"{name} is {x.dtype}, states are floating-point: dequantise integer data by DataSet.dequantised(), or "
            f"write {name}.float() or {name}.double()"
        )
    if x.ndim < 2 or not x.numel():
        raise InputError(f"{name} has the shape {tuple(x.shape)}: needed are states (B, ...), none of its sizes 0")
    # Inside of vmap numbers have no truth; they were looked at where they came from.
    if not torch._C._functorch.is_functorch_wrapped_tensor(x) and not finite(x):
        rows = (~torch.isfinite(x.detach()).flatten(1).all(1)).nonzero().flatten().tolist()
        raise InputError(f"{name} is NaN or infinite in row {rows[0]} ({len(rows)} of {len(x)} rows): leave it out")
    return x


def samples(name: str, value: Any) -> Tensor:
    """A set of samples, a tensor, an array or nested lists of real numbers, in its own dtype."""
    try:
        found = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{name}={shown(value)}: give samples (N, ...), a tensor or an array") from error
    if found.is_complex() or found.is_meta or found.layout is not torch.strided:
        raise InputTypeError(f"{name} is {found.dtype} on {found.device}: give real numbers")
    return found.detach()


def real_tensor(name: str, value: Any) -> Tensor:
    """Real numbers, a tensor, an array or nested lists, as a float64 tensor; refuses text and complex numbers."""
    try:
        if not isinstance(value, Tensor) and np.iscomplexobj(value):
            raise InputTypeError("complex numbers")
        found = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
        if found.is_complex() or found.is_meta or found.layout is not torch.strided:
            raise InputTypeError(f"{found.dtype}, {found.layout} on {found.device}")
        return found.to(torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputTypeError(f"{name}={shown(value)}: give real numbers ({_first_line(error)})") from error
