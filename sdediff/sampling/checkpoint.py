"""Gradients through a run in bounded memory: what a step computes is computed again when its gradient is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.utils.checkpoint
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.solvers import Wrapper


@dataclass(frozen=True, repr=False)
class Checkpointed(Wrapper):
    """The inner solver, of whose steps the states and outputs alone are kept for gradients. Chen et al. 2016."""

    def __repr__(self) -> str:
        return repr(self.solver)

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        def step(x: Tensor, state: Any) -> tuple[Tensor, Any]:
            return self.solver.step(model, x, t, s, state, noise)

        return torch.utils.checkpoint.checkpoint(step, x, state, use_reentrant=False, preserve_rng_state=False)
