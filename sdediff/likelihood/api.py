"""`log_likelihood`: one function for every method, micro-batch by micro-batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.likelihood import bounds, ode, two_pass
from sdediff.likelihood.ends import Prior
from sdediff.likelihood.result import Likelihood, joined
from sdediff.likelihood.settings import LikelihoodSettings, merged
from sdediff.likelihood.task import Task, checked_states, micro_batches, prepare
from sdediff.likelihood.units import Discrete
from sdediff.model.data_card import DataCard
from sdediff.model.data_check import check_data
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.run import placement

_METHODS: dict[str, Callable[[Task, Tensor, np.ndarray, dict[str, Tensor]], Likelihood]] = {
    "two_pass": two_pass.score, "ode": ode.score, "vlb": bounds.chain, "continuous_vlb": bounds.continuous,
}  # fmt: skip


def log_likelihood(
    model: ScoreModel,
    x: Tensor,
    *,
    settings: LikelihoodSettings | None = None,
    method: str | None = None,
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
    prior: Prior | None = None,
    end: str | None = None,
    discrete: Discrete | None = None,
    steps: int | None = None,
    noises: int | None = None,
    fresh: bool | None = None,
    variance: str | None = None,
    solver_error: str | None = None,
    max_steps: int | None = None,
    frozen: bool | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    cond: dict[str, Any] | None = None,
    autoencoder: Tensor | None = None,
    micro_batch: int = 256,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool | None = None,
) -> Likelihood:
    """log p(x) of data x (B, ...) in nats, float64, with estimates of its errors.

    The settings are the fields of `LikelihoodSettings`, given one by one or whole by `settings`; docs/likelihood.md
    explains the methods. seed, index: probes and noise are functions of the seed and the sample's index, which is
    `index`, index + 1, ... or a list of B. cond: conditions of the network; a tensor with B rows has a row a sample.
    autoencoder: for latents x, E_q[log p(image | x) - log q(x | image)], (B,) nats, which is added. micro_batch:
    samples that the network sees at once. Refuses a network in train mode, a process without alpha and sigma, x
    that is not finite or that the model's card makes impossible; doubtful x brings a DataWarning (`check_data`).
    """
    chosen = merged(
        settings, method=method, preset=preset, integrator=integrator, variable=variable, rtol=rtol, atol=atol, t0=t0,
        trace=trace, probes=probes, nodes=nodes, autograd=autograd, gradient=gradient, prior=prior, end=end,
        discrete=discrete, steps=steps, noises=noises, fresh=fresh, variance=variance, solver_error=solver_error,
        max_steps=max_steps, frozen=frozen,
    )  # fmt: skip
    x = checked_states(x)
    check_data(model, x)
    _check_latents(model, autoencoder, len(x))
    task, per_sample = prepare(model, chosen, x.shape, seed, cond, micro_batch)
    if task.discrete is not None:
        task.discrete.fits(DataCard.of(model.card)).checked(x)
    task = dataclasses.replace(task, progress=progress if len(x) <= micro_batch else False)
    dtype, device = placement(model, dtype, device, x)
    batches = micro_batches(len(x), micro_batch, index, per_sample, "log likelihood", progress)
    parts = [_evaluate(task, x[rows].to(dtype).to(device), numbers, given) for rows, numbers, given in batches]
    result = joined(parts).with_(data=DataCard.of(model.card))
    if autoencoder is None:
        return result
    term = autoencoder.double().to(result.log_prob.device)
    return result.with_(log_prob=result.log_prob + term, terms={**result.terms, "autoencoder": term})


def _check_latents(model: ScoreModel, autoencoder: Tensor | None, size: int) -> None:
    """Refuse latents without the autoencoder's term, and a term of another shape."""
    if autoencoder is not None and tuple(autoencoder.shape) != (size,):
        raise InputError(
            f"autoencoder has the shape {tuple(autoencoder.shape)}: give one number of nats a sample, ({size},)"
        )
    if autoencoder is None and (model.card.get("data") or {}).get("latent"):
        raise InputError(
            "by its card this network models the latents of an autoencoder: log p of a latent is not that of an image, "
            "and changes with the latents' scale. Give autoencoder=, E_q[log p(image | x) - log q(x | image)] in nats, "
            "for a bound on log p(image); zeros of shape (B,) for the density of the latents alone"
        )


def _evaluate(task: Task, x: Tensor, index: np.ndarray, cond: dict[str, Tensor]) -> Likelihood:
    """One micro-batch, evaluated a second time where the solver's error is to be measured."""
    result = _METHODS[task.method](task, x, index, cond)
    # Two passes measure their own error, by the probe that both runs share.
    if task.solver_error != "measure" or task.method == "two_pass":
        return result
    if task.method == "ode":
        return ode.measured(task, x, index, cond, result)
    finer = _METHODS[task.method](task.finer(), x, index, cond)
    # Twice the difference, for the second run still has half of the error. The noise's part of it is subtracted.
    squared = 4 * ((result.log_prob - finer.log_prob).square() - result.std_error.square() - finer.std_error.square())
    return result.with_(solver_error=squared.clamp(min=0).sqrt(), calls=result.calls + finer.calls)
