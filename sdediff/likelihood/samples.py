"""`sample_with_log_prob`: samples of the flow, and log p of each from the same path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.progress import track
from sdediff.likelihood import two_pass
from sdediff.likelihood.api import conditions, prepared
from sdediff.likelihood.ends import Prior
from sdediff.likelihood.result import Likelihood, joined
from sdediff.likelihood.settings import settled
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter, indices
from sdediff.sampling.run import check_eval, placement
from sdediff.sde.base import LinearSDE


def sample_with_log_prob(
    model: ScoreModel,
    shape: Sequence[int],
    *,
    integrator: str | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    t0: float | None = None,
    trace: str | None = None,
    probes: int | None = None,
    nodes: int | None = None,
    autograd: bool | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    prior: Prior | None = None,
    end: str | None = None,
    max_steps: int | None = None,
    frozen: bool | None = None,
    cond: dict[str, Any] | None = None,
    micro_batch: int = 256,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> tuple[Tensor, Likelihood]:
    """Samples x (B, ...) of the probability flow and log p(x) in nats, from one path each.

    Scoring x afterwards gives the same up to the tolerance, which is tighter here: between the modes the flow
    towards the data pulls neighbours apart. x_T, the latent, is drawn from `prior` by (seed, sample index). end:
    "heat", the default, gives x at 0 and log p_0, "t0" x at t0. The rest as in `log_likelihood`, method="two_pass".
    """
    check_eval(model)
    if not isinstance(model.sde, LinearSDE):
        raise ValueError("sample_with_log_prob needs a process with alpha and sigma: write it as a LinearSDE")
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"shape={tuple(shape)}: needed are a batch size and at least one dimension, all positive")
    if end == "noised":
        raise ValueError('end="noised" bounds the density of data that are given: write "heat" or "t0"')
    found = settled("two_pass", None, {
        "integrator": integrator, "rtol": rtol, "atol": atol, "t0": t0, "trace": trace, "probes": probes,
        "nodes": nodes, "autograd": autograd, "prior": prior, "end": end, "max_steps": max_steps, "frozen": frozen,
    })  # fmt: skip
    shared, own = conditions(cond or {}, shape[0])
    job = prepared(model.given(**shared), tuple(shape[1:]), found, seed, micro_batch, "estimate")
    kind, place = placement(model, dtype, device)
    numbers, starts = indices(index, shape[0]), range(0, shape[0], micro_batch)
    samples, parts = [], []
    for i in track(starts, len(starts), "samples with log p", progress):
        mine = numbers[i : i + micro_batch]
        z = Counter(seed, mine.tolist()).initial(torch.empty((len(mine), *shape[1:]), dtype=kind, device=place))
        given = {k: v[i : i + micro_batch] for k, v in own.items()}
        x, told = two_pass.sampled(job, z, mine, given)
        samples.append(x)
        parts.append(told)
    return torch.cat(samples), joined(parts)
