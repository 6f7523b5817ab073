"""One Wiener path per sample in the SDE's own time, so that refining a grid refines the same path."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import number, whole
from sdediff._utils.errors import InputError
from sdediff.noise.counter import TREE, Noise, normals, numbered

# States up to this size draw all levels of the tree at once.
_AHEAD = 1 << 13


@dataclass(frozen=True)
class Brownian(Noise):
    """Increments of one Wiener path per sample over [0, span], in the SDE's own time.

    Called for a step it returns the path's rise over the interval divided by sqrt(|t - s|); with draw=1 the
    independent unit normal of the space-time Levy area, sqrt(12 / h) H with h H = int (W_r - W_low) dr - h rise/2.
    Other draws and s = t fall back to the counter. A dyadic tree, 2**-depth * span fine (Foster 2020, ch. 4).
    """

    span: float = 1.0
    depth: int = 26
    _seen: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < number("span", self.span):
            raise InputError(f"span={self.span}: the path covers [0, span], give a positive time")
        if not 1 <= whole("depth", self.depth) <= 48:
            raise InputError(f"depth={self.depth}: give 1 to 48 levels of the tree")

    def __call__(self, t: Any, s: Any, like: Tensor, draw: int = 0) -> Tensor:
        low, high = sorted((self._tick(t.time), self._tick(s.time)))
        if low == high or draw > 1 or self.offset:
            return self._counter(like, (t.index, draw + self.offset))
        shape = tuple(like.shape)
        w, area = self._increment(low, high, shape)
        h = (high - low) * self.span / 2**self.depth
        z = w / math.sqrt(h) if draw == 0 else area * math.sqrt(12.0 / h)
        return torch.from_numpy(z).to(dtype=like.dtype).to(like.device)

    def increment(self, low: float, high: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """W(high) - W(low) and the space-time area H of [low, high], each shaped like `like`."""
        a, b = self._tick(low), self._tick(high)
        if a == b:
            return torch.zeros_like(like), torch.zeros_like(like)
        w, area = self._increment(a, b, tuple(like.shape))
        return tuple(torch.from_numpy(v).to(dtype=like.dtype).to(like.device) for v in (w, area))  # type: ignore[return-value]

    def values(self, times: np.ndarray, like: Tensor, index: np.ndarray) -> Tensor:
        """W of sample index[b] at times[b], each of the b samples at a time of its own; shaped like `like`."""
        ticks = np.array([self._tick(t) for t in times.tolist()], dtype=np.int64)
        levels = np.arange(self.depth)
        nodes, shape = ticks >> (self.depth - levels[:, None]), tuple(like.shape)

        def drawn(level: Any, node: Any) -> np.ndarray:
            return normals(self.seed, index, (TREE + level, node), (2, *shape[1:])).astype(np.float64)

        # One call for all levels of small states: a call of numpy costs more than its numbers.
        ahead = drawn(levels, nodes[..., None]) if like.numel() < _AHEAD else None

        def node(_: Any, level: int, shape: tuple[int, ...]) -> np.ndarray:
            if level > self.depth:
                return drawn(level, 0)
            return drawn(level, nodes[level][:, None]) if ahead is None else ahead[level]

        w, _ = self._descend(ticks, shape, node)
        return torch.from_numpy(w).to(dtype=like.dtype).to(like.device)

    def _tick(self, time: float) -> int:
        ticks = round(time / self.span * 2**self.depth)
        if not 0 <= ticks <= 2**self.depth:
            raise InputError(f"the Brownian path covers [0, {self.span}], asked for time {time}")
        return ticks

    def _increment(self, low: int, high: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        (w_high, i_high), (w_low, i_low) = self._at(high, shape), self._at(low, shape)
        h = (high - low) * self.span / 2**self.depth
        w = w_high - w_low
        return w, (i_high - i_low) / h - w_low - w / 2

    def _at(self, tick: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """W and its integral from 0 at a tick; the last look-up is kept (a step starts where one ended)."""
        return self._kept("at", (tick, shape), lambda: self._descend(tick, shape, self._node))

    def _node(self, node: int, level: int, shape: tuple[int, ...]) -> np.ndarray:
        """The two normals (B, 2, ...) of a node; the last one of every level is kept, neighbours share most."""

        def drawn() -> np.ndarray:
            index = numbered(self.index, shape[0])
            return normals(self.seed, index, (TREE + level, node), (2, *shape[1:])).astype(np.float64)

        return self._kept(level, (node, shape), drawn)

    def _kept(self, place: Any, key: Any, make: Callable[[], Any]) -> Any:
        # Read and replaced whole, so that threads sharing the path cannot see half of it.
        found = self._seen.get(place)
        if found is None or found[0] != key:
            found = self._seen[place] = (key, make())
        return found[1]

    def _descend(
        self, tick: Any, shape: tuple[int, ...], node: Callable[[Any, int, tuple[int, ...]], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """W and its integral from 0 at a tick, or at an array of ticks (B,), one a sample."""
        lead = (-1, *[1] * (len(shape) - 1))
        root = node(0, self.depth + 1, shape)
        h = self.span
        w, area = root[:, 0] * math.sqrt(h), root[:, 1] * math.sqrt(h / 12)
        end_w, end_i = w, h * (w / 2 + area)
        at_w, at_i = np.zeros(shape), np.zeros(shape)
        for level in range(self.depth):
            if not np.any(tick & ((1 << (self.depth - level)) - 1)):
                break
            pair = node(tick >> (self.depth - level), level, shape)
            bridge, twist = pair[:, 0] * math.sqrt(h / 16), pair[:, 1] * math.sqrt(h / 12)
            left_w, left_a = w / 2 + 1.5 * area + bridge, area / 4 - bridge / 2 + twist / 2
            h /= 2
            right = np.reshape((tick >> (self.depth - level - 1)) & 1, lead)
            at_i += right * h * (at_w + left_w / 2 + left_a)
            at_w += right * left_w
            w, area = np.where(right, w - left_w, left_w), np.where(right, left_a - twist, left_a)
        last = np.reshape(tick == 2**self.depth, lead)
        return np.where(last, end_w, at_w), np.where(last, end_i, at_i)
