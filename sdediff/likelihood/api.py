"""`log_likelihood`: one entry for every method, micro-batch by micro-batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.progress import track
from sdediff.likelihood import bounds, ode, two_pass
from sdediff.likelihood.ends import Prior, prior_name
from sdediff.likelihood.result import Likelihood, joined
from sdediff.likelihood.settings import Settings, checked, settled
from sdediff.likelihood.units import Discrete
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter as Draws
from sdediff.noise.counter import indices
from sdediff.sampling.run import check_eval, placement
from sdediff.sde.base import LinearSDE

_SCORED: dict[str, Callable[..., Likelihood]] = {
    "two_pass": two_pass.scored, "ode": ode.scored, "vlb": bounds.chain, "continuous_vlb": bounds.continuous,
}  # fmt: skip


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
    nodes: int | None = None,
    autograd: bool | None = None,
    gradient: str | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    prior: Prior | None = None,
    end: str | None = None,
    discrete: Discrete | None = None,
    steps: int | None = None,
    noises: int | None = None,
    fresh: bool | None = None,
    variance: str | None = None,
    solver_error: str = "estimate",
    max_steps: int | None = None,
    frozen: bool | None = None,
    cond: dict[str, Any] | None = None,
    autoencoder: Tensor | None = None,
    micro_batch: int = 256,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> Likelihood:
    """log p(x) of data x (B, ...) in nats; what each setting means stands in docs/likelihood.md.

    method: "two_pass"; "ode" (Song et al. 2021, eq. 39) by `integrator`, with gradient="direct" or "adjoint" for x and
    the network; "vlb", the bound of a chain of `steps`; "continuous_vlb". preset="literature": RK45 over t, 1e-5, one
    probe. trace: "exact", or `probes` of "hadamard", "rademacher", "gaussian" at each of `nodes` nodes a step.
    prior: "sigma" N(0, sigma_T^2 I), "unit", "std", "diagonal", "full" by the model's statistics, "auto", a function.
    end: "t0" is log p_{t0}, "heat" log p_0 up to sigma(t0)^4, "noised" and "data" bounds, of integer levels with
    `discrete`. solver_error: "estimate" or "measure". frozen: equal to the bit whatever the batch. cond: tensors of B
    rows go by sample. autoencoder: of latents x, E_q[log p(image | x) - log q(x | image)] (B,).
    """
    check_eval(model)
    if not isinstance(model.sde, LinearSDE):
        raise ValueError("log_likelihood needs a process with alpha and sigma: write it as a LinearSDE")
    chosen = {
        "integrator": integrator, "variable": variable, "rtol": rtol, "atol": atol, "t0": t0, "trace": trace,
        "probes": probes, "nodes": nodes, "autograd": autograd, "gradient": gradient, "prior": prior, "end": end,
        "discrete": discrete, "steps": steps, "noises": noises, "fresh": fresh, "variance": variance,
        "max_steps": max_steps, "frozen": frozen,
    }  # fmt: skip
    x = states(x)
    _no_lone_latents(model, autoencoder, len(x))
    found = settled(method, preset, chosen)
    shared, own = conditions(cond or {}, len(x))
    job = prepared(model.given(**shared), tuple(x.shape[1:]), found, seed, micro_batch, solver_error)
    if job.discrete is not None:
        job.discrete.checked(x)
    kind, place = placement(model, dtype, device, x)
    numbers, starts = indices(index, len(x)), range(0, len(x), micro_batch)
    job = dataclasses.replace(job, progress=progress if len(starts) == 1 else False)
    parts: list[Likelihood] = []
    for i in track(starts, len(starts), "log likelihood", progress):
        pick = slice(i, i + micro_batch)
        given = {k: v[pick] for k, v in own.items()}
        parts.append(_scored(job, x[pick].to(kind).to(place), numbers[pick], given))
    whole = joined(parts)
    if autoencoder is None:
        return whole
    more = autoencoder.double().to(whole.log_prob.device)
    return whole.with_(log_prob=whole.log_prob + more, terms={**whole.terms, "autoencoder": more})


def _no_lone_latents(model: ScoreModel, term: Tensor | None, size: int) -> None:
    if term is not None and tuple(term.shape) != (size,):
        raise ValueError(f"autoencoder has the shape {tuple(term.shape)}: give one number of nats a sample, ({size},)")
    if term is None and (model.card.get("data") or {}).get("latent"):
        raise ValueError(
            "by its card this network moves the latents of an autoencoder: log p of a latent is not that of an image, "
            "and changes with the latents' scale. Give autoencoder=, E_q[log p(image | x) - log q(x | image)] in nats, "
            "for a bound on log p(image); zeros of shape (B,) for the density of the latents alone"
        )


def prepared(
    model: ScoreModel, shape: tuple[int, ...], found: dict[str, Any], seed: int, micro_batch: int, solver_error: str
) -> Settings:
    """Checked settings from what `settled` found, for samples of a shape."""
    if micro_batch < 1:
        raise ValueError(f"micro_batch={micro_batch}: at least one sample is scored at a time")
    Draws(seed)
    named = {"t0": model.sde.t0, **found, "frozen": micro_batch if found.get("frozen") else 0}
    job = checked(Settings(model=model, seed=seed, solver_error=solver_error, **named))
    prior_name(job.prior, model, shape)
    return job


def states(x: Tensor) -> Tensor:
    """Data that can be scored: x itself, or a TypeError or ValueError that says what it lacks."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating-point tensor, given {given}: dequantise integer data first")
    if x.ndim < 2 or not x.numel():
        raise ValueError(f"x must be (B, ...) with at least one sample and one dimension, given {tuple(x.shape)}")
    bad = (~torch.isfinite(x.flatten(1)).all(1)).nonzero().flatten()
    if len(bad):
        raise ValueError(f"row {bad[0].item()} of x holds NaN or infinity ({len(bad)} such rows)")
    return x


def conditions(cond: dict[str, Any], size: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Conditions that all samples share, and those that have a row for each."""
    own = {k: v for k, v in cond.items() if isinstance(v, Tensor) and v.ndim > 0 and len(v) == size}
    return {k: v for k, v in cond.items() if k not in own}, own


def _scored(job: Settings, x: Tensor, index: Any, cond: dict[str, Tensor]) -> Likelihood:
    found = _SCORED[job.method](job, x, index, cond)
    if job.solver_error != "measure":
        return found
    other = _SCORED[job.method](job.finer(), x, index, cond)
    # Twice the difference: at half the tolerance half the error is left. The probes' own part is taken off.
    away = 4 * (found.log_prob - other.log_prob).square()
    if job.method == "continuous_vlb" or (job.method == "two_pass" and job.trace != "exact"):
        away = away - 4 * (found.std_error.square() + other.std_error.square())
    return found.with_(solver_error=away.clamp(min=0).sqrt(), calls=found.calls + other.calls)
