"""Checks of processes and of models."""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor

from sdediff.grids.grids import grid
from sdediff.grids.levels import level
from sdediff.model.score_model import ScoreModel
from sdediff.model.score_model import check_model as _is_model
from sdediff.sde.base import SDE, linear
from sdediff.testing.report import Check, expect, run_checks

_NOT_LINEAR = "not checked: the process does not give alpha and sigma"


def _times(sde: SDE, n: int = 9) -> Tensor:
    # Not at the training timesteps of tables, where the derivatives jump.
    return torch.linspace(sde.t_min, sde.t_max, n + 1, dtype=torch.float64)[:-1] + 0.37 * (sde.t_max - sde.t_min) / n


def coefficients(sde: SDE) -> str:
    """Drift and diffusion answer float64 times with finite numbers, states in their own dtype."""
    t = _times(sde)
    x = torch.randn(len(t), 3, generator=torch.Generator().manual_seed(0))
    expect(sde.drift(x, t).dtype == x.dtype, "drift changed the states' dtype: cast coefficients before they meet x")
    g = torch.as_tensor(sde.diffusion(t))
    expect(g.shape in (t.shape, ()), f"diffusion(t) has shape {tuple(g.shape)} for times {tuple(t.shape)}")
    expect(torch.isfinite(g).all() and (g >= 0).all(), "diffusion is negative or not finite inside (t_min, t_max)")
    return f"{len(t)} times"


def slopes(sde: SDE) -> str:
    """alpha' = f alpha and d(sigma^2)/dt = 2 f sigma^2 + g^2, by central differences of alpha and sigma."""
    if not sde.linear:
        return _NOT_LINEAR
    process = linear(sde)
    t = _times(sde)
    h = 1e-5 * (sde.t_max - sde.t_min)
    schedule = process.schedule(t)
    alpha_dot = (process.alpha(t + h) - process.alpha(t - h)) / (2 * h)
    var_dot = (process.sigma(t + h) ** 2 - process.sigma(t - h) ** 2) / (2 * h)
    worst = max(
        _gap(alpha_dot, schedule.f * schedule.alpha, schedule.alpha / sde.T),
        _gap(var_dot, 2 * schedule.f * schedule.sigma**2 + schedule.g2, schedule.sigma**2 / sde.T),
    )
    expect(worst < 1e-5, f"drift and diffusion disagree with alpha and sigma by {worst:.1e} (relative)")
    return f"within {worst:.0e}"


def _gap(a: Tensor, b: Tensor, floor: Tensor) -> float:
    return ((a - b).abs() / (b.abs() + floor)).max().item()


def log_snr(sde: SDE) -> str:
    """lam falls strictly, and t_of_lam inverts it."""
    if not sde.linear:
        return _NOT_LINEAR
    process = linear(sde)
    t = torch.linspace(sde.t_min, sde.t_max, 200, dtype=torch.float64)
    lam = process.lam(t)
    expect((lam.diff() < 0).all(), "lam = log(alpha/sigma) does not fall strictly from t_min to t_max")
    gap = ((process.t_of_lam(lam) - t).abs() / sde.T).max().item()
    expect(gap < 1e-9, f"t_of_lam(lam(t)) misses t by {gap:.1e} T")
    return f"inverse within {gap:.0e} T"


def kernels(sde: SDE) -> str:
    """Transitions compose: s -> u -> t is s -> t."""
    if not sde.linear:
        return _NOT_LINEAR
    process = linear(sde)
    s, u, t = (torch.tensor([v]) for v in _times(sde, 4)[:3].tolist())
    first, second, whole = process.transition(s, u), process.transition(u, t), process.transition(s, t)
    std = torch.sqrt((second.scale * first.std) ** 2 + second.std**2)
    worst = max(_gap(first.scale * second.scale, whole.scale, whole.scale), _gap(std, whole.std, whole.std))
    expect(worst < 1e-9, f"transition kernels do not compose: off by {worst:.1e}")
    return f"within {worst:.0e}"


def value(sde: SDE) -> str:
    """A process is a value: its copy gives the same numbers."""
    duplicate = copy.deepcopy(sde)
    t = _times(sde)
    expect(torch.equal(duplicate.diffusion(t), sde.diffusion(t)), "a copy gives other numbers")
    return "a copy agrees"


SDE_CHECKS = {
    "coefficients": coefficients, "slopes": slopes, "log snr": log_snr, "kernels": kernels, "value": value,
}  # fmt: skip


def check_sde(sde: SDE) -> list[Check]:
    """Every check of a process; raises ConformanceError naming the first that fails."""
    return run_checks(sde, SDE_CHECKS)


def _states(model: ScoreModel, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    parameters = list(model.net.parameters()) if isinstance(model.net, torch.nn.Module) else []
    like = parameters[0] if parameters else torch.empty((), dtype=dtype)
    return torch.randn(5, *shape, generator=torch.Generator().manual_seed(0)).to(like)


def outputs(model: ScoreModel, shape: tuple[int, ...]) -> str:
    """Finite predictions with the states' shape and dtype, at every time of a grid; x is not changed."""
    x = _states(model, shape)
    before = x.clone()
    with torch.no_grad():
        for t in grid("uniform", model.sde, 6, start=model.sde.t_max).tolist():
            score = model(x, t).score
            expect(score.shape == x.shape and score.dtype == x.dtype, f"score is {tuple(score.shape)} {score.dtype}")
            expect(torch.isfinite(score).all(), f"the score is not finite at t={t}")
    expect(torch.equal(x, before), "the network changed its input in place")
    return "7 times"


def rows(model: ScoreModel, shape: tuple[int, ...]) -> str:
    """A sample's prediction does not depend on its batch."""
    x = _states(model, shape)
    with torch.no_grad():
        t = level(model.sde, 0.5 * (model.sde.t_min + model.sde.t_max))
        in_batch, alone = model(x, t).score, model(x[2:3], t).score
    gap = (in_batch[2:3] - alone).abs().max().item() / alone.abs().max().clamp(min=1e-30).item()
    expect(gap < 1e-4, f"a sample's score changes by {gap:.1e} (relative) with its batch: batch norm in train mode?")
    return f"within {gap:.0e}"


def repeats(model: ScoreModel, shape: tuple[int, ...]) -> str:
    """Two evaluations at the same state and time agree to the bit."""
    x = _states(model, shape)
    with torch.no_grad():
        t = 0.5 * (model.sde.t_min + model.sde.t_max)
        expect(torch.equal(model(x, t).score, model(x, t).score), "two calls differ: write net.eval()")
    return "to the bit"


def check_model(model: ScoreModel, sample_shape: tuple[int, ...]) -> list[Check]:
    """Every check of a model on states (B, *sample_shape); raises ConformanceError naming the first that fails."""
    _is_model(model)
    checks = {"outputs": outputs, "rows": rows, "repeats": repeats}
    return run_checks(model, {name: functools.partial(check, shape=sample_shape) for name, check in checks.items()})
