"""Steps that draw from a Gaussian: what a solver writes is the kernel."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.solvers.base import Solver
from sdediff.solvers.kernel import StepKernel


class GaussianStep(Solver):
    """A solver whose step is mean + std z, z one draw of the noise; abstract. A subclass writes `kernel`."""

    @property
    def stochastic(self) -> bool:
        return True

    @abstractmethod
    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel: ...

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        kernel = self.kernel(model, x, t, s, state)
        if not self.stochastic:
            return kernel.mean, kernel.history
        return kernel.draw(noise(t, s, x)), kernel.history
