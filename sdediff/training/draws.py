"""The random numbers of an update: functions of (seed, update, number of the sample in the global batch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdediff.noise.counter import normals, uniforms

# First words of streams that no sampler or likelihood of the same seed reads.
_NORMALS, _UNIFORMS = 0x52000000, 0x5200000
# What the numbers of one update are for.
TIMES, NOISE, DROPPING, PROJECTIONS, DECODER, ROWS, OWN = range(7)


@dataclass(frozen=True)
class Draws:
    """Random numbers for samples first, first + 1, ... of a global batch of `total` samples.

    They do not depend on how that batch is split over processes, accumulated parts or devices.
    """

    seed: int
    update: int = 0
    first: int = 0
    total: int | None = None

    def index(self, batch: int) -> np.ndarray:
        """The numbers of the samples in the global batch."""
        return np.arange(self.first, self.first + batch)

    def normals(self, like: Tensor, stream: int = NOISE) -> Tensor:
        """Unit normals shaped, typed and placed like `like` (B, ...)."""
        key = (_NORMALS + stream, self.update)
        z = normals(self.seed, self.index(len(like)), key, tuple(like.shape[1:]))
        return torch.from_numpy(z).to(dtype=like.dtype).to(like.device)

    def uniforms(self, batch: int, stream: int = DROPPING) -> Tensor:
        """Independent uniform numbers in [0, 1), float64 (B,)."""
        return torch.from_numpy(uniforms(self.seed, self.index(batch), (self.update, _UNIFORMS + stream), ()))

    def stratified(self, batch: int, stream: int = TIMES) -> Tensor:
        """Uniform numbers, one in each of the `total` cells of [0, 1), all shifted alike: (B,) float64.

        Kingma et al. 2021, appendix I.1: one shift for the global batch. Its samples take the cells in random order.
        """
        total = self.total or self.first + batch
        numbers = uniforms(self.seed, np.arange(total + 1), (self.update, _UNIFORMS + stream), ())
        cells = np.argsort(np.argsort(numbers[:total], kind="stable"))[self.index(batch)]
        return torch.from_numpy((numbers[total] + cells / total) % 1)

    def signs(self, like: Tensor, stream: int = PROJECTIONS) -> Tensor:
        """Independent signs, -1 or 1, shaped like `like` (B, ...): Rademacher probes."""
        return torch.where(self.normals(like, stream) < 0, -1.0, 1.0).to(like)
