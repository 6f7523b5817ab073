"""Noise: unit normals as a pure function of (seed, sample index, level, draw); the default is counter-based.

`Counter` is Philox4x32-10 (Salmon et al. 2011) and our own normal transform, evaluated on the CPU with numpy, so that a
sample's noise is the same on any device, in any batch and in any order.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import whole
from sdediff._utils.errors import InputError, InputTypeError

WORD = 0xFFFFFFFF
_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)
_HIGH = 1 if sys.byteorder == "little" else 0
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], dtype=np.uint64)
# Streams of one seed that no level index can reach: level and draw indices stay below 2**31.
INITIAL, UNIFORM, TREE = 0xFFFFFFFF, 0xFFFFFFFE, 0x80000000


def philox(counter: Sequence[Any], key: tuple[int, int]) -> np.ndarray:
    """Ten rounds of Philox4x32 on arrays of counters.

    counter: four arrays (or scalars) of 32-bit words, broadcast together to a shape S; key: two 32-bit
    words. Returns uint32 (4, *S). Salmon et al. 2011, section 3.3.
    """
    shape = np.broadcast(*counter).shape
    words = np.empty((4, *shape), dtype=np.uint32)
    for lane, word in zip((0, 2, 1, 3), counter, strict=True):
        words[lane] = word
    even, odd, lanes = words[:2], words[2:], (2,) + (1,) * len(shape)
    keys = np.array(key, dtype=np.uint64) + np.arange(10, dtype=np.uint64)[:, None] * _WEYL
    for k in (keys & np.uint64(WORD)).astype(np.uint32).reshape(10, *lanes):
        # A product's halves are read in place: low words first, as the byte order has it.
        product = np.multiply(even, _MULTIPLIERS.reshape(lanes), dtype=np.uint64, order="C")
        halves = product[..., None].view(np.uint32)[::-1]
        even = halves[..., _HIGH] ^ odd
        even ^= k
        odd = halves[..., 1 - _HIGH]
    return np.stack([even[0], odd[0], even[1], odd[1]])


def _bits(seed: int, index: np.ndarray, stream: tuple[Any, int], size: int) -> np.ndarray:
    """32-bit words (4, ..., B, ceil(size / 4)) that depend on (seed, index[b], stream, position) alone.

    The stream's first word may be an array, whose shape leads the result's.
    """
    blocks, first = np.arange(-(-size // 4), dtype=np.uint32), np.asarray(stream[0], dtype=np.uint32)
    counter = (blocks, index.astype(np.uint32)[:, None], first[..., None, None], stream[1] & WORD)
    return philox(counter, (seed & WORD, seed >> 32))


def uniforms(seed: int, index: np.ndarray, stream: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers in [0, 1), float64 (B, *shape), element by element a function of (seed, index, stream)."""
    size = math.prod(shape)
    if not 0 <= stream[1] < 1 << 28:
        raise InputError(f"stream={stream}: the second word must lie in [0, 2**28)")
    words = _bits(seed, index, (UNIFORM - stream[1], stream[0]), 2 * size)
    flat = words.transpose(1, 2, 0).reshape(len(index), -1)[:, : 2 * size].astype(np.uint64)
    pairs = flat.reshape(len(index), size, 2)
    mantissa = (pairs[..., 0] >> np.uint64(5)) * np.uint64(1 << 26) + (pairs[..., 1] >> np.uint64(6))
    return (mantissa.astype(np.float64) * 2.0**-53).reshape(len(index), *shape)


def normals(seed: int, index: np.ndarray, stream: tuple[Any, int], shape: tuple[int, ...]) -> np.ndarray:
    """Unit normals, float32 (..., B, *shape), by Box and Muller's transform of 32-bit words (tails to 6.7)."""
    size, unit = math.prod(shape), np.float32(2.0**-32)
    words = _bits(seed, index, stream, size)
    radius, angle = words[:2].astype(np.float32), words[2:].astype(np.float32)
    radius += np.float32(0.5)
    radius *= unit
    np.log(radius, out=radius)
    radius *= np.float32(-2.0)
    np.sqrt(radius, out=radius)
    angle *= np.float32(2.0 * math.pi) * unit
    # Written where they belong: a block's four numbers lie side by side.
    z = np.empty((*words.shape[1:], 4), dtype=np.float32)
    lanes = np.moveaxis(z, -1, 0)
    np.multiply(radius, np.cos(angle), out=lanes[:2])
    np.multiply(radius, np.sin(angle), out=lanes[2:])
    lead = words.shape[1:-1]
    return z.reshape(*lead, -1)[..., :size].reshape(*lead, *shape)


def checked_index(index: Any) -> int | tuple[int, ...]:
    """A first sample's number, or one a sample, as plain integers; NumPy's, arrays and tensors of integers included."""
    if isinstance(index, Tensor | np.ndarray):
        if isinstance(index, Tensor) and index.is_meta:
            raise InputTypeError("index is on the device meta, which holds no numbers: give whole numbers")
        index = index.tolist()
    if not isinstance(index, Sequence | range) or isinstance(index, str | bytes):
        return whole("index", index)
    return tuple([value if type(value) is int else whole("index", value) for value in index])


def indices(index: int | Sequence[int], batch: int) -> np.ndarray:
    """Sample indices (batch,) from a first index or a list of them; each in [0, 2**32)."""
    return numbered(checked_index(index), batch)


def numbered(index: int | Sequence[int], batch: int) -> np.ndarray:
    """`indices` of whole numbers, such as a Noise's own index."""
    given = np.arange(index, index + batch) if isinstance(index, int) else np.asarray(index, dtype=np.int64)
    if given.shape != (batch,):
        raise InputError(f"index names {given.size} samples, the batch has {batch}: give one integer each")
    if batch and (given.min() < 0 or given.max() > WORD):
        raise InputError(f"sample indices must lie in [0, 2**32), given {given.min()} to {given.max()}")
    return given


# At most so many numbers are drawn together.
_AHEAD = 1 << 16


@dataclass(frozen=True)
class Noise(ABC):
    """Unit normals for the step from level t to level s, shaped like a state (B, ...).

    seed: an integer in [0, 2**64). index: the first sample's number, or one number a sample.
    offset: added to `draw`, so that two solvers in one step never share a draw.
    """

    seed: int = 0
    index: int | Sequence[int] = 0
    offset: int = 0

    def __post_init__(self) -> None:
        if type(self.seed) is not int:
            object.__setattr__(self, "seed", whole("seed", self.seed))
        if type(self.index) is not int:
            object.__setattr__(self, "index", checked_index(self.index))
        if type(self.offset) is not int:
            object.__setattr__(self, "offset", whole("offset", self.offset, 0))
        if not 0 <= self.seed < 2**64:
            raise InputError(f"seed={self.seed}: give an integer in [0, 2**64)")

    @abstractmethod
    def __call__(self, t: Any, s: Any, like: Tensor, draw: int = 0) -> Tensor:
        """Unit normals shaped, typed and placed like `like`; `draw` numbers the draws within the step."""

    def initial(self, like: Tensor) -> Tensor:
        """The draw that starts a path at the prior; the same for every kind of per-sample noise."""
        return self._counter(like, (INITIAL, 0))

    def for_run(self, steps: int) -> Noise:
        """The same noise for one run of so many steps, which may draw for several of them together."""
        return self

    def shifted(self, draws: int = 1 << 20) -> Noise:
        """The same noise with its draws moved, for the second of two solvers that share a step."""
        return replace(self, offset=self.offset + draws)

    def _counter(self, like: Tensor, stream: tuple[Any, int]) -> Tensor:
        index = numbered(self.index, like.shape[0])
        z = normals(self.seed, index, stream, tuple(like.shape[1:]))
        return torch.from_numpy(z).to(dtype=like.dtype).to(like.device)


@dataclass(frozen=True)
class Counter(Noise):
    """Per-sample counter-based noise: sample i's draws depend on (seed, i, level index, draw) alone."""

    def __call__(self, t: Any, s: Any, like: Tensor, draw: int = 0) -> Tensor:
        return self._counter(like, (t.index, draw + self.offset))

    def for_run(self, steps: int) -> Noise:
        # A class derived from this one has draws of its own.
        return _CounterAhead(self.seed, self.index, self.offset, steps) if type(self) is Counter else self


@dataclass(frozen=True)
class _CounterAhead(Noise):
    """Counter's draws in one run of so many steps: small states draw for up to sixteen levels together.

    A call of numpy costs more than its numbers. Entries are read and replaced whole, for threads.
    """

    steps: int = 0
    _drawn: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, t: Any, s: Any, like: Tensor, draw: int = 0) -> Tensor:
        stream, kind = draw + self.offset, (like.shape, like.dtype, like.device)
        first, drawn_for, drawn = self._drawn.get(stream, (0, None, ()))
        if drawn_for == kind and 0 <= t.index - first < len(drawn):
            return drawn[t.index - first].clone()
        wide = min(_AHEAD // max(1, like.numel()), 16, self.steps - t.index)
        if wide < 2:
            return self._counter(like, (t.index, stream))
        drawn = self._counter(like, (np.arange(t.index, t.index + wide), stream)).unbind()
        if len(self._drawn) > 16:
            self._drawn.clear()
        self._drawn[stream] = t.index, kind, drawn
        return drawn[0].clone()
