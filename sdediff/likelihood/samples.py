"""`sample_with_log_prob`: samples of the probability flow, and log p of each from the same path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import state_shape
from sdediff._utils.errors import InputError
from sdediff.likelihood import two_pass
from sdediff.likelihood.ends import Prior
from sdediff.likelihood.result import Likelihood, joined
from sdediff.likelihood.settings import LikelihoodSettings, merged
from sdediff.likelihood.task import micro_batches, place, prepare
from sdediff.model.score_model import ScoreModel, check_card, check_model
from sdediff.noise.counter import Counter

_TOLERANCE = 1e-4


def sample_with_log_prob(
    model: ScoreModel | str,
    shape: Sequence[int],
    *,
    settings: LikelihoodSettings | None = None,
    integrator: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    t0: float | None = None,
    trace: str | None = None,
    probes: int | None = None,
    nodes: int | None = None,
    autograd: bool | None = None,
    prior: Prior | None = None,
    end: str | None = None,
    max_steps: int | None = None,
    frozen: bool | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    cond: dict[str, Any] | None = None,
    micro_batch: int = 256,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool | None = None,
) -> tuple[Tensor, Likelihood]:
    """Samples x (B, ...) of the probability flow and log p(x) in nats, from one path each.

    shape: (B, ...). The settings are those of `log_likelihood` for method="two_pass", with tolerances of 1e-4 by
    default: between the modes the flow towards the data pulls neighbours apart. Scoring x afterwards gives the same
    up to the tolerance. x_T, the latent, is drawn from `prior` by (seed, sample index). end: "heat", the default,
    gives x at 0 and log p_0, "t0" x at t0. The other arguments are as in `log_likelihood`.
    """
    chosen = merged(
        settings, integrator=integrator, rtol=rtol, atol=atol, t0=t0, trace=trace, probes=probes, nodes=nodes,
        autograd=autograd, prior=prior, end=end, max_steps=max_steps, frozen=frozen,
    )  # fmt: skip
    shape = state_shape(shape)
    model = check_model(model)
    check_card(model, shape)
    _check_settings(chosen)
    chosen = chosen.with_defaults(rtol=_TOLERANCE, atol=_TOLERANCE)
    task, conditions = prepare(model, chosen, shape, seed, cond, micro_batch)
    dtype, device = place(model, dtype, device)
    samples, parts = [], []
    for _, numbers, given in micro_batches(shape[0], micro_batch, index, conditions, "samples with log p", progress):
        like = torch.empty((len(numbers), *shape[1:]), dtype=dtype, device=device)
        z = Counter(seed, numbers.tolist()).initial(like)
        x, likelihood = two_pass.sample(task, z, numbers, given)
        samples.append(x)
        parts.append(likelihood)
    return torch.cat(samples), joined(parts)


def _check_settings(settings: LikelihoodSettings) -> None:
    """Refuse settings that have a meaning for given data alone."""
    values = settings.values()
    if values["method"] != "two_pass":
        raise InputError(f"method={values['method']!r}: sample_with_log_prob takes two passes: leave method out")
    if values["end"] == "noised":
        raise InputError('end="noised" bounds the density of data that are given: write "heat" or "t0"')
    if values["solver_error"] == "measure":
        raise InputError('solver_error="measure" scores given data twice: call log_likelihood on the samples')
