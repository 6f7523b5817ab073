"""`log_likelihood`: one function for every method, micro-batch by micro-batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import real_tensor, shown, states
from sdediff._utils.errors import InputError
from sdediff.likelihood import bounds, ode, two_pass
from sdediff.likelihood.ends import Prior
from sdediff.likelihood.randomness import DREW, generator_state
from sdediff.likelihood.result import Likelihood, joined
from sdediff.likelihood.settings import LikelihoodSettings, merged
from sdediff.likelihood.task import Conditions, Task, micro_batches, place, prepare
from sdediff.likelihood.units import Discrete
from sdediff.model.data_card import DataCard
from sdediff.model.data_check import check_data
from sdediff.model.parts import states_of
from sdediff.model.score_model import ScoreModel, check_model

_METHODS: dict[str, Callable[[Task, Tensor, np.ndarray, Conditions], Likelihood]] = {
    "two_pass": two_pass.score, "ode": ode.score, "vlb": bounds.chain, "continuous_vlb": bounds.continuous,
}  # fmt: skip


def log_likelihood(
    model: ScoreModel | str,
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
    x = states("x", x)
    if x.requires_grad and torch.is_grad_enabled() and chosen.gradient is None:
        raise InputError(
            "x requires a gradient, which this likelihood would drop: write method='ode' with gradient='direct' or "
            "'adjoint', or x.detach()"
        )
    model = check_model(model)
    check_data(model, x)
    term = _latent_term(model, autoencoder, len(x))
    task, conditions = prepare(model, chosen, x.shape, seed, cond, micro_batch)
    if task.discrete is not None:
        task.discrete.fits(DataCard.of(model.card)).checked(x)
    task = dataclasses.replace(task, progress=progress if len(x) <= micro_batch else False)
    dtype, device = place(model, dtype, device, x)
    batches = micro_batches(len(x), micro_batch, index, conditions, "log likelihood", progress)
    before = generator_state(device)
    parts = [_evaluate(task, x[rows].to(dtype).to(device), numbers, given) for rows, numbers, given in batches]
    result = joined(parts).with_(data=DataCard.of(model.card))
    if not torch.equal(before, generator_state(device)):
        result = result.with_(status=tuple(DREW if word == "ok" else word for word in result.status))
    if term is None:
        return result
    term = term.to(result.log_prob.device)
    of = "images, by the autoencoder's term" if bool(term.any()) else states_of(model)
    return result.with_(log_prob=result.log_prob + term, terms={**result.terms, "autoencoder": term}, of=of)


def _latent_term(model: ScoreModel, autoencoder: Any, size: int) -> Tensor | None:
    """The autoencoder's term (B,), float64; latents without it are refused, and a term of another shape."""
    if autoencoder is not None:
        term = real_tensor("autoencoder", autoencoder)
        if tuple(term.shape) != (size,) or not bool(term.isfinite().all()):
            raise InputError(
                f"autoencoder={shown(autoencoder)}: give one finite number of nats a sample, a tensor ({size},)"
            )
        return term
    if model.autoencoder is not None or (model.card.get("data") or {}).get("latent"):
        said = "by its card" if model.autoencoder is None else "as its autoencoder says,"
        raise InputError(
            f"{said} this network models the latents of an autoencoder: log p of a latent is not that of an image, "
            "and changes with the latents' scale. Give autoencoder=, E_q[log p(image | x) - log q(x | image)] in nats, "
            "for a bound on log p(image); zeros of shape (B,) for the density of the latents alone. In a job: "
            "of='latents' or of='images', on the command line --of"
        )
    return None


def _evaluate(task: Task, x: Tensor, index: np.ndarray, cond: Conditions) -> Likelihood:
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
