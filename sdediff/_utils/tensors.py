"""Numbers and states: how coefficients in float64 meet tensors of any kind."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

_Made = TypeVar("_Made")


def times64(t: Any) -> Tensor:
    """Times (or any coefficients) as a float64 tensor."""
    return t.to(torch.float64) if isinstance(t, Tensor) else torch.as_tensor(t, dtype=torch.float64)


def per_sample(value: Any, x: Tensor) -> Any:
    """A coefficient ready to meet a state: floats pass, a (B,) tensor is cast and shaped (B, 1, ...)."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim == 0:
        return value.to(x)
    return value.to(device=x.device, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


# A product with a number makes a tensor of the number first, which takes a third of a small state's time; a sum
# with zero does not. A sum rounds its factor to the tensors' type, so of narrow types the product is taken.
_ZEROS = {kind: torch.zeros((), dtype=kind) for kind in (torch.float32, torch.float64)}


def product(x: Tensor, c: float) -> Tensor:
    """c x of a number and a state, a fresh tensor."""
    zero = _ZEROS.get(x.dtype)
    return x * c if zero is None else torch.add(zero, x, alpha=c)


def normal_log_prob(x: Tensor, std: float) -> Tensor:
    """log N(x; 0, std^2 I) summed over all but the first dimension, nats, float64 (B,)."""
    flat = x.reshape(x.shape[0], -1).to(torch.float64)
    return -0.5 * (flat / std).square().sum(1) - flat.shape[1] * (math.log(std) + 0.5 * math.log(2 * math.pi))


class Columns:
    """Rows of numbers, one a coordinate, (K, C) float64, and the tensors (C,) that they are beside states."""

    def __init__(self, *rows: Any) -> None:
        self._rows = rows
        self._made: dict[Any, tuple[Tensor, ...]] = {}

    def like(self, y: Tensor) -> tuple[Tensor, ...]:
        """The rows, each (C,), of the kind of coordinates y (B, C); they travel to a device once, at a time."""
        kind = y.dtype, y.device
        if kind not in self._made:
            rows = np.stack(np.broadcast_arrays(*self._rows))
            with torch.inference_mode(mode=False):  # kept for runs that take gradients, too
                self._made[kind] = torch.from_numpy(rows).to(y).unbind()
        return self._made[kind]


class _Lookup:
    """Arrays by what made them; those not asked for the longest go where all of them need more than the room."""

    def __init__(self, room: int) -> None:
        self._kept: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._room = self._left = room
        self._lock, self._held = threading.RLock(), list[list[Any]]()

    def __call__(self, make: Callable[..., Any], size: int, *by: Any) -> Any:
        key = make, by
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._seen(self._kept[key][0])
        value, size = make(*by), size + 256  # what lies around the arrays takes room as well
        with self._lock:
            if size > self._room and not self._held:
                return value
            self._left += self._kept.pop(key, (None, 0))[1] - size
            self._kept[key] = value, size
            self._tidy()
            return self._seen(value)

    def _seen(self, value: Any) -> Any:
        for held in self._held:
            held.append(value)
        return value

    def _tidy(self) -> None:
        while self._left < 0 and not self._held:
            self._left += self._kept.popitem(last=False)[1][1]

    @contextlib.contextmanager
    def holding(self) -> Iterator[list[Any]]:
        """A list of all that is asked for meanwhile, by whom ever; none of it goes before the end."""
        held: list[Any] = []
        with self._lock:
            self._held.append(held)
        try:
            yield held
        finally:
            with self._lock:
                self._held = [other for other in self._held if other is not held]
                self._tidy()


# In coordinates, of 60 to 90 bytes each: 500 to 800 MB for all together.
ARRAYS = _Lookup(1 << 23)


class LookedUp(Generic[_Made]):
    """A function whose last values are kept: `numbers` where coefficients in them are floats, else `sized(count)`.

    Plain numbers are kept for thousands of steps, arrays as far as there is room for all of them together.
    """

    def __init__(self, make: Callable[..., _Made]) -> None:
        self.numbers: Callable[..., _Made] = functools.lru_cache(maxsize=1 << 12)(make)
        self._make = make

    def sized(self, count: int) -> Callable[..., _Made]:
        """The function where a coefficient is an array of so many numbers, or with 0 a float."""
        return functools.partial(ARRAYS, self._make, count) if count else self.numbers
