"""What follows from a process's alpha and sigma: its other coefficients, and the records that hold them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Kernel(NamedTuple):
    """A Gaussian transition x -> N(scale x, std^2 I)."""

    scale: Tensor
    std: Tensor


class Reverse(NamedTuple):
    """A reverse-time process dx = drift(x, t) dt + diffusion(t) dw, integrated from T down."""

    drift: Callable[[Tensor, Any], Tensor]
    diffusion: Callable[[Any], Tensor]


class Schedule(NamedTuple):
    """alpha, sigma and what follows from them at given times; float64, shaped like the times."""

    time: Tensor
    alpha: Tensor
    sigma: Tensor
    lam: Tensor
    alpha_dot: Tensor
    sigma_dot: Tensor
    f: Tensor
    g2: Tensor


def drift_and_diffusion(alpha: Any, sigma: Any, alpha_dot: Any, sigma_dot: Any) -> tuple[Any, Any]:
    """f = alpha'/alpha and g^2 = 2 sigma (sigma' - f sigma), of tensors or arrays."""
    f = alpha_dot / alpha
    return f, 2 * sigma * (sigma_dot - f * sigma)
