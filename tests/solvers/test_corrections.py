"""The corrector of the Adams family, beside one that keeps the start of its step and makes it again."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.sampling.run import Plan, make_table
from sdediff.solvers.adams import Adams
from sdediff.solvers.angle import Angle
from sdediff.solvers.multistep import Family, Multistep
from sdediff.solvers.weights import Rule, Weights, whitened

F64 = torch.float64


def _every_scale(solver: Angle, stats: sd.Statistics, levels: tuple[sd.Level, ...]) -> tuple[Family, torch.Tensor]:
    """The family of the whitened basis with a scale a coordinate, and the coordinates (C, D)."""
    turn = stats.directions if solver.scale == "pca" else torch.eye(stats.dims.numel(), dtype=F64)
    scale = (stats.variances if solver.scale == "pca" else stats.dims.flatten()).sqrt().numpy()
    weights = Weights(levels, Rule("F", solver.variable, stats.std), scale[None])
    every = weights.columns(np.s_[:])
    base = every.alpha[1:] - weights.transfer * every.alpha[:-1]
    offsets = every.sigma / (np.hypot(every.alpha * scale, every.sigma) * scale)
    output = whitened(every, scale)
    return Family(weights.transfer, weights.of, output, base, offsets, turn @ stats.mean.flatten()), turn


def _keeping_x(solver: Multistep, model: sd.ScoreModel, x: torch.Tensor, steps: int, seed: int) -> torch.Tensor:
    """Predictor and corrector as written: the step's start is kept, and the step made again with the new output."""
    times = sd.grid(solver.grid, model.sde, steps)
    levels, _, bound = make_table(model, Plan(solver, times, False), x)
    with np.errstate(all="ignore"):
        if isinstance(solver, Angle) and solver.scale in ("dims", "pca"):
            family, turn = _every_scale(solver, model.stats, levels)
        else:
            family, turn = solver.family(bound, levels), torch.eye(x.shape[1], dtype=F64)
    noise, past, before = sd.Counter(seed), (), None

    def step(i: int, newest: int, count: int, x: torch.Tensor, past: tuple[torch.Tensor, ...]) -> torch.Tensor:
        w = family.weights(np.array([i]), np.array([newest]), np.array([count]))[0]
        y = (x @ turn.T) * torch.from_numpy(family.transfer[i])
        for j in range(count):
            y = y + torch.from_numpy(w[j]) * past[j]
        if family.base is not None:
            added = family.base[i] + sum(w[j] * family.offsets[i + newest - j] for j in range(count))
            y = y + torch.from_numpy(added) * family.mean
        return y @ turn

    for i, (t, s) in enumerate(itertools.pairwise(levels)):
        prediction = bound(x, t)
        if isinstance(family.output, str):
            output = getattr(prediction, family.output) @ turn.T
        else:
            on_eps, on_x0 = (torch.from_numpy(v[i]) for v in family.output)
            output = on_eps * (prediction.eps @ turn.T) + on_x0 * (prediction.x0 @ turn.T)
        past = (output, *past)
        if before is not None:
            start, kick = before
            x = step(i - 1, 1, min(i + 1, solver.corrector_points), start, past) + kick
        std = 0.0 if family.noise is None else family.noise[i]
        kick = std * noise(t, s, x)
        before = (x, kick)
        x = step(i, 0, min(i + 1, solver.points), x, past) + kick
    return x


@pytest.mark.parametrize(
    "solver",
    [
        Adams(2, 3), Adams(3, 2), Adams(1, 4, "t", "eps"), sd.solver("sa_solver"), sd.solver("dpm_solver_v3"),
        *(sd.solver("angle", scale=scale) for scale in (0.7, "std", "dims", "pca")),
    ],
    ids=repr,
)  # fmt: skip
def test_the_correction_is_one_of_outputs_alone(solver: Multistep) -> None:
    """So no x is kept, and the corrector shares the next step's sums: both ways agree to rounding."""
    target = sd.target("target_m")
    model = replace(target.model(sd.VP()), stats=sd.statistics(target.sample(512, seed=1)))
    x = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(2))
    found = sd.sample(model, x=x, solver=solver, steps=9, seed=4, denoise=False)
    torch.testing.assert_close(found, _keeping_x(solver, model, x, 9, 4), rtol=0, atol=1e-12)
