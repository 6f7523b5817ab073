"""A solver's linear map: the model of Gaussian data in closed form, and one run on unit impulses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Noise
from sdediff.sampling.run import Counter, prepare
from sdediff.sde.base import LinearSDE
from sdediff.solvers import Solver, SolverError


class NotLinear(SolverError):
    """A solver whose result is not linear in its start and its noise, so has no impulse response."""


def gaussian_model(sde: LinearSDE, mean: Any = 0.5, std: Any = 0.3) -> ScoreModel:
    """The exact model of N(mean, std^2), mean and std floats or (D,) float64 for states (B, D).

    Elementwise operations alone, so equal to the bit in any batch.
    """

    def net(x: Tensor, t: Tensor) -> Tensor:
        times = t.double()
        shape = (-1, *[1] * (x.ndim - 1))
        alpha, sigma = (fn(times).to(x.dtype).reshape(shape) for fn in (sde.alpha, sde.sigma))
        total = (alpha * std) ** 2 + sigma**2
        rest = x - alpha * mean
        return alpha * sigma * rest * (1 - std**2) / total - sigma * mean

    return ScoreModel(net, sde, predicts="v")


@dataclass(frozen=True)
class Impulses(Noise):
    """The k-th different draw of a run is 1 in row k + 3, -2 in row 2, 0 elsewhere."""

    seen: dict[Any, int] = field(default_factory=dict, compare=False)

    def __call__(self, t: Level, s: Level, like: Tensor, draw: int = 0) -> Tensor:
        row = self.seen.setdefault((t.index, s.index, draw + self.offset), len(self.seen) + 3)
        z = torch.zeros_like(like)
        z[2] = -2.0
        if row < len(z):
            z[row] = 1.0
        return z


class Response(NamedTuple):
    """A run's linear map, an eigenvalue a column: output = offset + gain x_T + sum_k kicks[k] z_k."""

    times: Tensor
    calls: int
    offset: Tensor
    gain: Tensor
    kicks: Tensor


def impulse_response(used: Solver, model: ScoreModel, dim: int, **options: Any) -> Response:
    """The response (float64) of a run with the options of `sample` on an elementwise affine model of (B, dim).

    Row 0 answers x_T = 0, row 1 x_T = 1, row k + 3 the draw k; row 2 takes -2 of everything, which shows
    whether answers add up and scale. NotLinear where they do not, SDEError where sigma or alpha forbid it.
    """
    if used.adaptive:
        raise NotLinear(f"{used!r} chooses its steps by its states, so is not linear in them: give one on a fixed grid")

    def answers(rows: int) -> tuple[Tensor, Impulses, Tensor, int]:
        noise, counter = Impulses(), Counter()
        x = torch.zeros(rows, dim, dtype=torch.float64)
        x[1], x[2] = 1.0, -2.0
        made = prepare(model, x=x, solver=used, noise=noise, **options)
        with torch.no_grad():
            *_, end = made._replace(model=made.model.map_net(counter.wrap)).states()
        out = end.x if end.prediction is None else end.prediction.x0
        return out, noise, made.plan.times, counter.calls

    out, noise, times, calls = answers(3)
    if noise.seen:
        out, _, _, _ = answers(3 + len(noise.seen))
    elif used.stochastic:
        raise NotLinear(f"{used!r} draws its noise elsewhere than from `noise`: give a solver that takes it from there")
    gains = out - out[0]
    parts = -2 * (gains[1] + gains[3:].sum(0))
    # What overflows has left every bound: that it is linear cannot be seen, nor matters.
    if torch.isfinite(gains).all() and not torch.allclose(gains[2], parts, atol=1e-8, rtol=1e-6):
        raise NotLinear(f"{used!r} is not linear in x and its noise, so has no impulse response: measure it by samples")
    return Response(times, calls, out[0], gains[1], gains[3:])
