"""The exact flow where a contender ends, and the error against it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdediff.benchmark.contenders.rules import Outcome
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import sample
from sdediff.solvers import Solver
from sdediff.solvers import solver as resolved


def exact_end(
    outcome: Outcome,
    model: ScoreModel,
    x_T: Tensor,
    solver: str | Solver,
    calls: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor | None:
    """The flow from x_T (B, ...) at T to the time at which a contender ended, by a solver of high accuracy.

    calls: of the solver, unless it is adaptive. dtype: of its states, by default x_T's. None where the contender does
    not say where it ends, or ends below the process's t_min: its row is marked "ends elsewhere".
    """
    end, sde = outcome.time_end, model.sde
    if end is None or 0 < end < sde.t_min * (1 - 1e-3):
        return None
    x = x_T if dtype is None else x_T.to(dtype)
    options: dict[str, Any] = {} if calls is None else {"calls": calls}
    used = resolved(solver)
    if end > 0:
        options |= {"stop": max(end, float(sde.t_min)), "denoise": False}
        if not used.grid and hasattr(sde, "n"):
            # A table's own grids stop at its timesteps alone.
            options["grid"] = "uniform"
    return sample(model, x=x, solver=used, dtype=x.dtype, progress=False, **options)


def errors(x: Tensor, exact: Tensor) -> Tensor:
    """The rms distance over the coordinates of each state to the exact one, float64 (B,); states (B, ...)."""
    return (x[: len(exact)].double() - exact.double().to(x.device)).flatten(1).square().mean(1).sqrt()
