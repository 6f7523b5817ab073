"""The kernels of a run's steps, one after another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.checks import number, states
from sdediff._utils.errors import InputError
from sdediff.grids.levels import Level
from sdediff.model.bound import BoundModel
from sdediff.model.network import check_eval
from sdediff.model.score_model import ScoreModel, check_card, check_model
from sdediff.sampling.densities import check_kernel, check_noisy
from sdediff.sampling.run import Plan, make_plan, make_table
from sdediff.solvers import Solver, StepKernel


class Chain(NamedTuple):
    """The steps of a run, each a Gaussian, under one model: the solver, the bound model and the pairs of levels."""

    solver: Solver
    model: BoundModel
    steps: Sequence[tuple[Level, Level]]

    def kernel(self, x: Tensor, step: tuple[Level, Level], history: Any) -> StepKernel:
        """The kernel of one step at states x; refused where it adds no noise."""
        kernel = self.solver.kernel(self.model, x, *step, history)
        check_noisy(self.solver, kernel.std, *step)
        return kernel


def make_chain(
    model: ScoreModel | str, plan: Plan, x: Tensor, cond: dict[str, Any] | None, warn: bool = False
) -> Chain:
    """The chain of a plan under a model for states like x; refused where its steps have no density.

    warn: of steps that are too long for the solver, where no run has done so.
    """
    model = check_model(model)
    check_kernel(plan.solver)
    check_card(model, x.shape)
    seen = check_eval(model)
    levels, _, bound = make_table(model._under(cond), plan, x, seen.dtypes, warn)
    stays = plan.solver.corrector
    return Chain(plan.solver, bound, [(t, t) for t in levels] if stays else list(itertools.pairwise(levels)))


def transition(
    model: ScoreModel | str,
    x: Tensor,
    t: float,
    s: float,
    *,
    solver: str | Solver = "ancestral",
    cond: dict[str, Any] | None = None,
) -> StepKernel:
    """The Gaussian from which one step of a solver draws x_s given x (B, ...) at t: mean (B, ...) and std.

    t, s: times, s < t. A solver that looks back at earlier steps takes its first one. Its log_prob(x_s) is the log
    density in nats, float64 (B,). Raises SolverError where the step is no Gaussian, saying why.
    """
    model, x = check_model(model), states("x", x)
    t, s = number("t", t), number("s", s)
    if not s < t:
        raise InputError(f"t={t}, s={s}: a step goes down from t to s, give s < t")
    plan = make_plan(model, solver, grid=torch.tensor([t, s], dtype=torch.float64), denoise=False)
    chain = make_chain(model, plan, x, cond)
    return chain.kernel(x, chain.steps[0], None)
