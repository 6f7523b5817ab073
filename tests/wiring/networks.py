"""Networks whose right wiring is known, written without the package's own readings."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

import sdediff as sd

TARGET = sd.target("gmm64")


@functools.cache
def data(count: int = 600) -> Tensor:
    """Rows of the target."""
    return TARGET.sample(count, dtype=torch.float64)


def network(sde: sd.LinearSDE, predicts: str, sigma_data: float = 0.5) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact network of the target on a process, in the terms of each paper; its clock is the time."""
    exact = TARGET.model(sde).net

    def denoised(x: Tensor, t: Tensor) -> Tensor:
        return exact.average(x, t, "x0")

    def forward(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (f(t.double()).reshape(-1, 1, 1, 1) for f in (sde.alpha, sde.sigma))
        if predicts == "edm":
            w = (alpha**2 * sigma_data**2 + sigma**2).sqrt()
            state = x.double() * w
            skip, out = alpha * sigma_data**2 / w**2, sigma * sigma_data / w
            return ((denoised(state, t) - skip * state) / out).to(x.dtype)
        state = x.double()
        x0 = denoised(state, t)
        eps = (state - alpha * x0) / sigma
        h = 1e-6
        later, earlier = t.double() + h, t.double() - h
        slopes = [((f(later) - f(earlier)) / (2 * h)).reshape(-1, 1, 1, 1) for f in (sde.alpha, sde.sigma)]
        outputs = {
            "x0": x0, "eps": eps, "score": -eps / sigma, "v": alpha * eps - sigma * x0,
            "velocity": slopes[0] * x0 + slopes[1] * eps,
        }  # fmt: skip
        return outputs[predicts].to(x.dtype)

    return forward


def labelled() -> tuple[sd.LinearSDE, Callable[..., Tensor], Tensor, Tensor]:
    """A process, the exact noise of three Gaussians told apart by a label, 900 rows, and their labels."""
    means = torch.tensor([[-1.0, 0.5], [0.8, -0.4], [0.2, 1.0]], dtype=torch.float64)
    labels, sde = torch.arange(900) % 3, sd.VP()
    x = means[labels] + 0.2 * torch.randn(900, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def net(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        alpha, sigma = (f(t.double())[:, None] for f in (sde.alpha, sde.sigma))
        centre = means[label]
        share = alpha * 0.04 / (alpha**2 * 0.04 + sigma**2)
        return ((x - alpha * (centre + share * (x - alpha * centre))) / sigma).to(x.dtype)

    return sde, net, x, labels
