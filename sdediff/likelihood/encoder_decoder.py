"""A bound on log p(image) of a latent model: encoder, decoder and the density of the latents together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import number, states, whole
from sdediff._utils.errors import InputError
from sdediff.likelihood.api import log_likelihood
from sdediff.likelihood.result import Likelihood
from sdediff.model.data_card import DataCard
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.noise.counter import normals

_STREAM = (0x4C000000, 1)
METHOD = "encoder_decoder_vlb"
_MEANS = ("solver_error", "prior_log_prob")


def encoder_decoder_bound(
    model: ScoreModel | str,
    images: Tensor,
    *,
    std: float,
    draws: int | str = 4,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    cond: dict[str, Any] | None = None,
    device: torch.device | str | None = None,
    **settings: Any,
) -> Likelihood:
    """E_q[log N(x; decode(z), std^2)] + E_q[log p(z)] + entropy of q(z | x), at most log p(x): nats an image, float64.

    model: of latents, its autoencoder with posterior(images) -> mean and deviation of q, decode(z). images: (B, C, H,
    W); std: the decoder's deviation, `decoder_std` of training images. draws: of z an image, in pairs mean +- d; or
    "cubature", the points mean +- sqrt(D) std_i on every axis, exact where the integrand is quadratic in z. seed,
    index: of draws and probes, as in `log_likelihood`, of which the settings are. The result has the terms "decoder",
    "latent" and "entropy"; std_error is that of the draws, of the trace in them, and solver_error the mean one of
    log p(z). Kingma and Welling 2014, eq. 3; Vahdat et al. 2021.
    """
    model, x = check_model(model), states("images", images)
    coder, x = _coder(model), x if device is None else x.to(device)
    numbers = range(index, index + len(x)) if isinstance(index, int) else index
    with torch.no_grad():
        mean, deviation = (part.double() for part in coder.posterior(x))
        points = _points(mean, draws, seed, numbers)
        results, decoder = [], []
        for unit in points:
            z = mean + deviation * unit
            decoded = coder.decode(z.to(x.dtype)).double()
            decoder.append(_log_normal(x.double() - decoded, number("std", std)))
            run = {**settings, "seed": seed, "index": numbers, "cond": cond, "device": device}
            zeros = torch.zeros(len(x), dtype=torch.float64)
            results.append(log_likelihood(model, z.to(mean), autoencoder=zeros, **run))
    dims = mean[0].numel()
    entropy = deviation.log().flatten(1).sum(1) + dims * (math.log(2 * math.pi) + 1) / 2
    latent = torch.stack([result.log_prob for result in results])
    each = torch.stack(decoder).to(latent) + latent
    terms = {
        "decoder": torch.stack(decoder).mean(0).to(latent),
        "latent": latent.mean(0),
        "entropy": entropy.to(latent),
    }
    mean_of = {name: torch.stack([getattr(r, name) for r in results]).mean(0) for name in _MEANS}
    sum_of = {name: torch.stack([getattr(r, name) for r in results]).sum(0) for name in ("calls", "steps", "rejected")}
    words = zip(*(result.status for result in results), strict=True)
    return results[0].with_(
        log_prob=torch.stack(list(terms.values())).sum(0), terms=terms, std_error=_error(each, draws),
        dims=x[0].numel(), method=METHOD, end="image", of="images", latent=mean, data=DataCard(), **mean_of, **sum_of,
        status=tuple(next((word for word in row if word != "ok"), "ok") for row in words),
    )  # fmt: skip


def decoder_std(model: ScoreModel | str, images: Tensor) -> float:
    """The root mean square of images minus their reconstructions: the deviation that fits these images best."""
    model, x = check_model(model), states("images", images)
    with torch.no_grad():
        again = torch.cat([_coder(model).decode(_coder(model).encode(part)) for part in x.split(256)])
    return (x.double() - again.double()).square().mean().sqrt().item()


def _coder(model: ScoreModel) -> Any:
    if model.autoencoder is None:
        raise InputError("the model has no autoencoder, its states are the data: sd.log_likelihood gives log p itself")
    if not hasattr(model.autoencoder, "posterior"):
        name = type(model.autoencoder).__name__
        raise InputError(f"{name} has no posterior(images): a bound needs the density of q(z | x), as of a KL encoder")
    return model.autoencoder


def _points(mean: Tensor, draws: int | str, seed: int, numbers: Sequence[int]) -> Tensor:
    """Deviations from the mean in units of q's: (K, B, ...), whose mean is 0."""
    shape, dims = tuple(mean.shape[1:]), mean[0].numel()
    if draws == "cubature":
        axes = math.sqrt(dims) * torch.eye(dims, dtype=torch.float64, device=mean.device).reshape(dims, 1, *shape)
        return torch.cat([axes, -axes]).expand(2 * dims, len(mean), *shape)
    if isinstance(draws, str):
        raise InputError(f'draws={draws!r}: give an even number, or "cubature"')
    if whole("draws", draws, 2) % 2:
        raise InputError(f"draws={draws}: they come in pairs, give an even number")
    half = [
        torch.from_numpy(normals(seed, np.asarray(numbers), (_STREAM[0], _STREAM[1] + k), shape))
        for k in range(draws // 2)
    ]
    units = torch.stack(half).to(mean)
    return torch.cat([units, -units])


def _error(each: Tensor, draws: int | str) -> Tensor:
    """The standard error of the mean over pairs of draws (K, B), NaN for one pair; 0 of cubature."""
    if isinstance(draws, str):
        return torch.zeros_like(each[0])
    pairs = each.reshape(2, -1, each.shape[1]).mean(0)
    return pairs.std(0) / len(pairs) ** 0.5 if len(pairs) > 1 else torch.full_like(each[0], math.nan)


def _log_normal(residual: Tensor, std: float) -> Tensor:
    if not std > 0:
        raise InputError(f"std={std}: the decoder's standard deviation, such as decoder_std(model, images)")
    part = residual.square() / (2 * std**2) + math.log(std) + math.log(2 * math.pi) / 2
    return -part.flatten(1).sum(1)
