"""Between data and latent codes by the probability flow: `encode` and `decode`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import states
from sdediff._utils.errors import InputError
from sdediff.grids.grids import GridLike
from sdediff.grids.levels import level
from sdediff.model.data_check import check_data
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.sampling.run import Run
from sdediff.sampling.sampler import Sampler
from sdediff.solvers import Solver, SolverError


def encode(
    model: ScoreModel | str,
    x: Tensor,
    *,
    solver: str | Solver = "ode",
    steps: int | None = None,
    calls: int | None = None,
    grid: GridLike | None = None,
    start: float | None = None,
    stop: float | None = None,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """The probability-flow latent of data x (B, ...): the state at `start` (T) of the flow from alpha(stop) x.

    solver: any deterministic solver, by default dopri5 with rtol = atol = 1e-5; steps, calls, grid, cond, dtype, device
    as in `sample`. stop: the end at data, by default the process's `t0` (1e-5). x that the model's card
    makes doubtful or impossible brings a DataWarning or an InputError. Song et al. 2021, section 4.3.
    """
    model = check_model(model)
    run = _flow(model, x, solver, stop, cond, dtype, device, steps=steps, calls=calls, grid=grid, start=start)
    check_data(model, run.x)
    begin = level(model.sde, run.plan.times[-1].item())
    rising = run.plan._replace(times=run.plan.times.flip(0))
    return _end(run._replace(plan=rising, x=run.x * begin.alpha)).to(dtype or x.dtype)


def decode(
    model: ScoreModel | str,
    z: Tensor,
    *,
    solver: str | Solver = "ode",
    steps: int | None = None,
    calls: int | None = None,
    grid: GridLike | None = None,
    start: float | None = None,
    stop: float | None = None,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Data x (B, ...) from a latent: the flow from `start` (T) to `stop`, over alpha(stop): `encode`'s inverse."""
    model = check_model(model)
    run = _flow(model, z, solver, stop, cond, dtype, device, steps=steps, calls=calls, grid=grid, start=start)
    return (_end(run) / level(model.sde, run.plan.times[-1].item()).alpha).to(dtype or z.dtype)


def _flow(
    model: ScoreModel,
    x: Tensor,
    solver: str | Solver,
    stop: float | None,
    cond: dict[str, Any] | None,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    **grid: Any,
) -> Run:
    given_stop, stop = stop, model.sde.t0 if stop is None else stop
    if not (grid["grid"] is None or isinstance(grid["grid"], str) or callable(grid["grid"])):
        stop = given_stop  # the times have their own end
    if states("x", x).requires_grad and torch.is_grad_enabled():
        raise InputError("x requires a gradient, which encode and decode do not keep: write x.detach()")
    run = Sampler(model, solver=solver, stop=stop, denoise=False, dtype=dtype, device=device, **grid).run(
        x=x, cond=cond
    )
    if run.plan.solver.stochastic or run.plan.solver.corrector:
        raise SolverError(f"{run.plan.solver!r} draws noise: encode and decode need a deterministic solver")
    return run


def _end(run: Run) -> Tensor:
    with torch.no_grad():
        *_, final = run.states()
    return final.x
