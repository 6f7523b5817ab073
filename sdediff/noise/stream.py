"""A plain generator a draw: fast, the same for the same call, but not the same in another batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.noise.counter import INITIAL, WORD, Noise, philox


@dataclass(frozen=True)
class Stream(Noise):
    """A plain generator a draw, on the state's device: fast, the same for the same call, but a sample's
    noise depends on its place in the batch and on the device. `index` is not used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.index != 0:
            raise InputError(f"index={self.index} has no effect on a stream, whose draws go by place: leave it out")

    def __call__(self, t: Any, s: Any, like: Tensor, draw: int = 0) -> Tensor:
        return self._draw(like, t.index, draw + self.offset)

    def initial(self, like: Tensor) -> Tensor:
        return self._draw(like, INITIAL, 0)

    def _draw(self, like: Tensor, level: int, draw: int) -> Tensor:
        mixed = philox((level, draw, 0, 0), (self.seed & WORD, self.seed >> 32))
        if like.device.type == "cpu":
            # torch's CPU generator reads 32 bits of its seed alone, so numpy's takes all 128 here.
            source = np.random.Generator(np.random.SFC64([int(w) for w in mixed]))
            return torch.from_numpy(source.standard_normal(like.shape)).to(like.dtype)
        generator = torch.Generator(like.device).manual_seed(int(mixed[0]) | int(mixed[1]) << 32)
        return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
