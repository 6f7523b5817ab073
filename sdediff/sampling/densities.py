"""Runs whose steps are drawn from their kernels, with the log density of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import known, shown
from sdediff._utils.errors import InputError
from sdediff.grids.levels import Level
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.sampling.checkpoint import Checkpointed
from sdediff.sampling.compatibility import refuse_stateful
from sdediff.sampling.run import Run, SampleRecord, State
from sdediff.solvers import Solver, SolverError, Wrapper

LOG_PROBS = ("steps",)


@dataclass(frozen=True, repr=False)
class WithDensities(Wrapper):
    """The inner solver, each step drawn from its kernel. History: its own, and the log densities (B,) of all steps."""

    def __repr__(self) -> str:
        return repr(self.solver)

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        history, densities = state or (None, ())
        kernel = self.solver.kernel(model, x, t, s, history)
        check_noisy(self.solver, kernel.std, t, s)
        x = kernel.draw(noise(t, s, x))
        return x, (kernel.history, (*densities, kernel.log_prob(x)))


def check_noisy(solver: Solver, std: float | Tensor, t: Level, s: Level) -> None:
    """Refuse a step that adds no noise, whose law has no density."""
    if not isinstance(std, Tensor) and not std > 0:
        hint = ", or write within=None" if getattr(solver, "within", None) is not None else ""
        raise SolverError(
            f"{solver!r} adds no noise in the step from t={t.time:.6g} to t={s.time:.6g}, which so has no density: "
            f"take a solver that adds noise in every step, such as ancestral or dpmpp_2m_sde{hint}"
        )


def check_kernel(solver: Solver) -> None:
    """Refuse a solver whose steps have no density, saying why and what to take."""
    if solver.no_kernel:
        hint = "" if ":" in solver.no_kernel else ": take ancestral, ddim with eta=1, euler_maruyama or dpmpp_2m_sde"
        raise SolverError(f"{solver!r} has no transition density, {solver.no_kernel}{hint}")


def prepared(run: Run, log_prob: str | None, grad: bool | str, resume: Any) -> Run:
    """The run with the log density of each step in its history, and with its steps checkpointed, where asked for."""
    solver = run.plan.solver
    if log_prob is not None:
        if not known(log_prob, LOG_PROBS):
            raise InputError(f"log_prob={shown(log_prob)}: write 'steps' for the log density of each step, or None")
        if resume is not None:
            raise InputError("log_prob= counts from the first step, and resume= begins later: leave one of them out")
        check_kernel(solver)
        solver = WithDensities(solver)
    if grad == "checkpoint":
        refuse_stateful(run.model, "steps that are computed again would change")
    return run._replace(plan=run.plan._replace(solver=Checkpointed(solver) if grad == "checkpoint" else solver))


def record(run: Run, x: Tensor, trajectory: Sequence[Tensor], final: State, calls: int) -> SampleRecord:
    """The record of a run with result x and these states, its log densities taken from the last state's history."""
    solver, log_prob = run.plan.solver, None
    while isinstance(solver, Checkpointed | WithDensities):
        if isinstance(solver, WithDensities):
            log_prob = torch.stack(final.history[1])
        solver = solver.solver
    return SampleRecord(x, run.plan.times[run.first :], torch.stack(list(trajectory)), calls, log_prob, solver)
