"""`log_likelihood`: one entry for both methods, micro-batch by micro-batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff.likelihood import ode, two_pass
from sdediff.likelihood.ends import Prior, prior_name
from sdediff.likelihood.result import Likelihood, joined
from sdediff.likelihood.settings import Settings, checked, settled
from sdediff.model import ScoreModel
from sdediff.noise import Counter as Draws
from sdediff.noise import indices
from sdediff.plan import check_eval, placement
from sdediff.progress import track
from sdediff.sde import LinearSDE

_SCORED: dict[str, Callable[..., Likelihood]] = {"two_pass": two_pass.scored, "ode": ode.scored}


def log_likelihood(
    model: ScoreModel,
    x: Tensor,
    *,
    method: str = "two_pass",
    preset: str | None = None,
    integrator: str | None = None,
    variable: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    t0: float | None = None,
    trace: str | None = None,
    probes: int | None = None,
    nodes: int = 3,
    autograd: bool = True,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    prior: Prior | None = None,
    end: str | None = None,
    solver_error: str = "estimate",
    max_steps: int = 1000,
    frozen: bool = False,
    cond: dict[str, Any] | None = None,
    micro_batch: int = 256,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> Likelihood:
    """log p(x) of data x (B, ...) in nats. method: "two_pass", or "ode" (Song et al. 2021, eq. 39) by `integrator`.

    preset="literature": ode, RK45 over t, 1e-5, one fixed probe. rtol, atol: 1e-3, with the exact trace 1e-4, ode 1e-5.
    trace: "exact", or "hadamard", "rademacher", "gaussian" with `probes` probes, anew at each of `nodes` nodes a step;
    autograd=False: by two forwards a probe. prior: "sigma" N(0, sigma_T^2 I), "unit" N(0, I), "std", "diagonal",
    "full" matched to the model's statistics, "auto" (full where it has them, else sigma), or x_T -> log density (B,).
    end: "t0" gives log p_{t0}(x), "heat" log p_0(x) up to sigma(t0)^4. solver_error: "estimate", or "measure" by a
    second run at half the tolerance. frozen: finished samples stay in the batch, so that no value depends on its mates
    to the bit. cond: tensors of B rows go by sample.
    """
    check_eval(model)
    if not isinstance(model.sde, LinearSDE):
        raise ValueError("log_likelihood needs a process with alpha and sigma: write it as a LinearSDE")
    chosen = {
        "integrator": integrator, "variable": variable, "rtol": rtol, "atol": atol, "t0": t0, "trace": trace,
        "probes": probes, "prior": prior, "end": end,
    }  # fmt: skip
    x = _checked(x)
    if micro_batch < 1:
        raise ValueError(f"micro_batch={micro_batch}: at least one sample is scored at a time")
    Draws(seed)
    shared, own = _conditions(cond or {}, len(x))
    found = {"t0": model.sde.t0, **settled(method, preset, chosen)}
    job = checked(Settings(
        model=model.given(**shared), nodes=nodes, autograd=autograd, seed=seed, solver_error=solver_error,
        max_steps=max_steps, frozen=micro_batch if frozen else 0, **found,
    ))  # fmt: skip
    prior_name(job.prior, model, tuple(x.shape[1:]))
    kind, place = placement(model, dtype, device, x)
    numbers, starts = indices(index, len(x)), range(0, len(x), micro_batch)
    parts: list[Likelihood] = []
    for i in track(starts, len(starts), "log likelihood", progress):
        pick = slice(i, i + micro_batch)
        given = {k: v[pick] for k, v in own.items()}
        parts.append(_scored(job, x[pick].to(kind).to(place), numbers[pick], given))
    return joined(parts)


def _checked(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating-point tensor, given {given}: dequantise integer data first")
    if x.ndim < 2 or not x.numel():
        raise ValueError(f"x must be (B, ...) with at least one sample and one dimension, given {tuple(x.shape)}")
    bad = (~torch.isfinite(x.flatten(1)).all(1)).nonzero().flatten()
    if len(bad):
        raise ValueError(f"row {bad[0].item()} of x holds NaN or infinity ({len(bad)} such rows)")
    return x


def _conditions(cond: dict[str, Any], size: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Conditions that all samples share, and those that have a row for each."""
    own = {k: v for k, v in cond.items() if isinstance(v, Tensor) and v.ndim > 0 and len(v) == size}
    return {k: v for k, v in cond.items() if k not in own}, own


def _scored(job: Settings, x: Tensor, index: Any, cond: dict[str, Tensor]) -> Likelihood:
    found = _SCORED[job.method](job, x, index, cond)
    if job.solver_error != "measure":
        return found
    finer = dataclasses.replace(job, rtol=job.rtol / 2, atol=job.atol / 2, nodes=job.nodes + 1)
    other = _SCORED[job.method](finer, x, index, cond)
    # Twice the difference: at half the tolerance half the error is left. The probes' own part is taken off.
    away = 4 * (found.log_prob - other.log_prob).square()
    if job.method == "two_pass" and job.trace != "exact":
        away = away - 4 * (found.std_error.square() + other.std_error.square())
    return found.with_(solver_error=away.clamp(min=0).sqrt(), calls=found.calls + other.calls)
