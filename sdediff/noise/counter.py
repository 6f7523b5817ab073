"""What noise is, unit normals as a pure function of (seed, sample index, level, draw), and the default one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff.noise.philox import INITIAL, indices, normals

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
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise ValueError(f"seed={self.seed}: give an integer in [0, 2**64)")

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
        index = indices(self.index, like.shape[0])
        z = normals(self.seed, index, stream, tuple(like.shape[1:]))
        return torch.from_numpy(z).to(dtype=like.dtype).to(like.device)


@dataclass(frozen=True)
class Counter(Noise):
    """Per-sample counter-based noise: sample i's draws depend on (seed, i, level index, draw) alone."""

    def __call__(self, t: Any, s: Any, like: Tensor, draw: int = 0) -> Tensor:
        return self._counter(like, (t.index, draw + self.offset))

    def for_run(self, steps: int) -> Noise:
        return _CounterAhead(self.seed, self.index, self.offset, steps)


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
