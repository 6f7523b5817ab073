"""A reference for measured orders: the exact network of a mixture with a fine solution of its flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdediff.grids.grids import grid
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import sample
from sdediff.sde.base import LinearSDE
from sdediff.solvers import ODE
from sdediff.targets import target


@dataclass(frozen=True, eq=False, repr=False)
class ReferenceFlow:
    """A nonlinear exact model, starts (128, 2) of its flow and their ends by DOP853 at 1e-12, all float64.

    `ReferenceFlow.of(sde)` computes one; pass it to `measured_order` and `check_solver` to measure many solvers.
    """

    model: ScoreModel
    starts: Tensor
    ends: Tensor

    def __repr__(self) -> str:
        return f"ReferenceFlow({self.model.sde!r}, {len(self.starts)} starts)"

    @classmethod
    def of(cls, sde: LinearSDE) -> ReferenceFlow:
        """The reference of the target `target_m` under this process."""
        model = target("target_m").model(sde)
        start = grid("uniform", sde, 1)[0].item()
        generator = torch.Generator().manual_seed(1)
        starts = sde.prior_std() * torch.randn(128, 2, dtype=torch.float64, generator=generator)
        fine = ODE("DOP853", rtol=1e-12, atol=1e-12)
        ends = sample(model, x=starts, solver=fine, steps=1, start=start, stop=sde.t_min, denoise=False)
        return cls(model, starts, ends)
