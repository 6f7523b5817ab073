"""Recorded paths under other weights: the log density of each step, and the divergence of two models' paths."""

from __future__ import annotations

from typing import Any, Literal

import torch.utils.checkpoint
from torch import Tensor

from sdediff._utils.checks import flag, known, shown
from sdediff._utils.errors import InputError, InputTypeError
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.paths.transitions import Chain, make_chain
from sdediff.sampling import SampleRecord
from sdediff.sampling.compatibility import refuse_stateful
from sdediff.sampling.run import Plan
from sdediff.solvers import SolverError


def replay(
    record: SampleRecord,
    model: ScoreModel | str,
    *,
    cond: dict[str, Any] | None = None,
    grad: bool | Literal["checkpoint"] = False,
) -> Tensor:
    """The log density of each step of a recorded run under `model`, nats, float64 (n, B).

    record: of `sample(..., log_prob="steps")` or full=True. For the model that made it, in the same mode and batch, it
    is record.log_prob to the bit, so that the ratio exp(replay - record.log_prob) is 1 before an update. It is summed
    over the dimensions of a state. grad: gradients flow to what the network has of them, "checkpoint" in less memory.
    Black et al. 2023, eq. 5; Liu et al. 2025.
    """
    if not known(grad, ("checkpoint",)):
        flag("grad", grad)
    chain, path = _chain(record, model, cond)
    if grad == "checkpoint":
        refuse_stateful(check_model(model), "steps that are computed again would change")

    def density(i: int, history: Any) -> tuple[Tensor, Any]:
        kernel = chain.kernel(path[i], chain.steps[i], history)
        return kernel.log_prob(path[i + 1]), kernel.history

    rows, history = list[Tensor](), None
    with torch.set_grad_enabled(bool(grad)):
        for i in range(len(chain.steps)):
            if grad == "checkpoint":
                row, history = torch.utils.checkpoint.checkpoint(
                    density, i, history, use_reentrant=False, preserve_rng_state=False
                )
            else:
                row, history = density(i, history)
            rows.append(row)
        return _numbers(torch.stack(rows))


def path_kl(
    record: SampleRecord,
    model: ScoreModel | str,
    other: ScoreModel | str,
    *,
    cond: dict[str, Any] | None = None,
    grad: bool = False,
) -> Tensor:
    """KL(model's step || other's step) at the recorded states, nats, float64 (n, B).

    The sum over steps, averaged over paths that `model` made, estimates the divergence of the two models' paths, which
    bounds that of their samples. For an ancestral step it is (SNR_s - SNR_t) |D - D'|^2 / 2, the term of VDM's loss
    (Kingma et al. 2021, eq. 14).
    """
    flag("grad", grad)
    (one, path), (two, _) = _chain(record, model, cond), _chain(record, other, cond)
    rows, histories = list[Tensor](), (None, None)
    with torch.set_grad_enabled(grad):
        for x, step_one, step_two in zip(path, one.steps, two.steps, strict=False):
            p, q = one.kernel(x, step_one, histories[0]), two.kernel(x, step_two, histories[1])
            rows.append(p.divergence(q))
            histories = p.history, q.history
        return _numbers(torch.stack(rows))


def _numbers(rows: Tensor) -> Tensor:
    """The figures (n, B) of the steps; refused where a network gave NaN."""
    bad = rows.detach().isnan().any(1)
    if bool(bad.any()):
        raise SolverError(f"the network gave NaN in step {int(bad.nonzero()[0])} of the record: look at its output")
    return rows


def _chain(record: Any, model: ScoreModel | str, cond: dict[str, Any] | None) -> tuple[Chain, Tensor]:
    """The chain of a record under a model, and its states."""
    if not isinstance(record, SampleRecord) or record.solver is None:
        raise InputTypeError(f'record={shown(record)}: give what sd.sample(..., log_prob="steps") returned')
    if record.solver.corrector:
        raise InputError(
            f"{record.solver!r} takes one step more than a record has states after it: replay paths of a solver that "
            "goes from level to level, such as ancestral"
        )
    path = record.trajectory.detach()
    return make_chain(model, Plan(record.solver, record.times, False), path[0], cond), path
