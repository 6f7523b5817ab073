"""The linear map of a solver: the exact model of Gaussian data, and one run on unit impulses."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.errors import WiringWarning
from sdediff.grids.grids import GridLike
from sdediff.grids.levels import Level
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Noise
from sdediff.sampling.api import Sampler
from sdediff.sampling.watch import CallCounter
from sdediff.sde.base import LinearSDE
from sdediff.solvers import Solver, SolverError


class NotLinear(SolverError):
    """A solver whose result is not linear in its start and its noise, so has no impulse response."""


def gaussian_model(sde: LinearSDE, mean: Any = 0.5, std: Any = 0.3) -> ScoreModel:
    """The exact model of N(mean, std^2), mean and std floats or (D,) float64 for states (B, D).

    Only elementwise operations, so that a sample has the same bits in any batch.
    """

    def net(x: Tensor, t: Tensor) -> Tensor:
        times = t.double()
        shape = (-1, *[1] * (x.ndim - 1))
        alpha, sigma = (fn(times).to(x.dtype).reshape(shape) for fn in (sde.alpha, sde.sigma))
        variance = (alpha * std) ** 2 + sigma**2
        centred = x - alpha * mean
        return alpha * sigma * centred * (1 - std**2) / variance - sigma * mean

    return ScoreModel(net, sde, predicts="v")


@dataclass(frozen=True)
class Impulses(Noise):
    """Unit impulses in place of noise: the k-th draw of a run is 1 in row k + 3, -2 in row 2, 0 elsewhere."""

    draws: dict[Any, int] = field(default_factory=dict, compare=False)

    def __call__(self, t: Level, s: Level, like: Tensor, draw: int = 0) -> Tensor:
        row = self.draws.setdefault((t.index, s.index, draw + self.offset), len(self.draws) + 3)
        z = torch.zeros_like(like)
        z[2] = -2.0
        if row < len(z):
            z[row] = 1.0
        return z


class Response(NamedTuple):
    """The linear map of a run, one column for each eigenvalue: output = offset + gain x_T + sum_k kicks[k] z_k."""

    times: Tensor
    calls: int
    offset: Tensor
    gain: Tensor
    kicks: Tensor

    def __repr__(self) -> str:
        return f"Response({len(self.gain)} eigenvalues, {len(self.kicks)} draws, {self.calls} calls)"


def impulse_response(
    solver: Solver,
    model: ScoreModel,
    dim: int,
    *,
    grid: GridLike | None = None,
    steps: int | None = None,
    calls: int | None = None,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
) -> Response:
    """The response (float64) of a run on an elementwise affine model of states (B, dim); arguments as in `sample`.

    Row 0 holds the run from x_T = 0, row 1 from x_T = 1, row k + 3 that of draw k; row 2 has -2 times all of these,
    which tests additivity and scaling. NotLinear where the test fails, SDEError where sigma or alpha forbid it.
    """
    if solver.adaptive:
        raise NotLinear(f"{solver!r} chooses its steps from its states, not linearly: give a solver on a fixed grid")

    def run(rows: int) -> tuple[Tensor, Impulses, Tensor, int]:
        noise, counter = Impulses(), CallCounter()
        x = torch.zeros(rows, dim, dtype=torch.float64)
        x[1], x[2] = 1.0, -2.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WiringWarning)
            sampler = Sampler(
                model, solver=solver, grid=grid, steps=steps, calls=calls, start=start, stop=stop, denoise=denoise,
                noise=noise,
            )  # fmt: skip
        prepared = sampler.run(x=x, wrap=counter.wrap)
        with torch.no_grad():
            *_, end = prepared.states(check=False)
        out = end.x if end.prediction is None else end.prediction.x0
        return out, noise, prepared.plan.times, counter.calls

    out, noise, times, counted = run(3)
    if noise.draws:
        out, _, _, _ = run(3 + len(noise.draws))
    elif solver.stochastic:
        raise NotLinear(f"{solver!r} does not take its noise from `noise`: give a solver that does")
    gains = out - out[0]
    expected = -2 * (gains[1] + gains[3:].sum(0))
    # Where the output overflows, linearity cannot be tested, and the solver is unstable in any case.
    if torch.isfinite(gains).all() and not torch.allclose(gains[2], expected, atol=1e-8, rtol=1e-6):
        raise NotLinear(
            f"{solver!r} is not linear in x and its noise, so has no impulse response: measure it by samples"
        )
    return Response(times, counted, out[0], gains[1], gains[3:])
