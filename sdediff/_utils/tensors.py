"""Numbers and states: how coefficients in float64 meet tensors of any kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputTypeError


def times64(t: Any) -> Tensor:
    """Times (or any coefficients) as a float64 tensor."""
    try:
        return t.to(torch.float64) if isinstance(t, Tensor) else torch.as_tensor(t, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputTypeError(f"{type(t).__name__} {t!r:.60} where real numbers are needed: give floats") from error


def per_sample(value: Any, x: Tensor) -> Any:
    """A coefficient ready to meet a state: floats pass, a (B,) tensor is cast and shaped (B, 1, ...)."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim == 0:
        return value.to(x)
    return value.to(device=x.device, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


# A product with a number makes a tensor of the number first, which takes a third of a small state's time; a sum
# with zero does not. A sum rounds its factor to the tensors' type, so of narrow types the product is taken.
_ZEROS = {kind: torch.zeros((), dtype=kind) for kind in (torch.float32, torch.float64)}


def product(x: Tensor, c: float) -> Tensor:
    """c x of a number and a state, a fresh tensor."""
    return weighted_sum(x, c, (), ())


def weighted_sum(x: Tensor, on_x: float, weights: Sequence[float], terms: Sequence[tuple[float, Tensor]]) -> Tensor:
    """on_x x + sum of weight times factor times tensor over the terms (factor, tensor); a fresh tensor."""
    zero = _ZEROS.get(x.dtype)
    total = x * on_x if zero is None else torch.add(zero, x, alpha=on_x)
    for weight, (factor, tensor) in zip(weights, terms, strict=False):
        if weight:
            total.add_(tensor, alpha=weight * factor)
    return total


def combine(p: Any, x: Tensor, q: Any, y: Tensor) -> Tensor:
    """p x + q y with float or (B,) coefficients, in the states' dtype."""
    if isinstance(p, Tensor) or isinstance(q, Tensor):
        return per_sample(p, x) * x + per_sample(q, y) * y
    if p == 0.0:
        return y if q == 1.0 else y * q
    return torch.add(x, y, alpha=q) if p == 1.0 else weighted_sum(x, p, (q,), ((1.0, y),))


def finite(x: Tensor) -> bool:
    """Whether no number of x is NaN or infinite; a sum that is finite says so in one pass."""
    return math.isfinite(x.detach().sum().item()) or bool(torch.isfinite(x).all())


def normal_log_prob(x: Tensor, std: float) -> Tensor:
    """log N(x; 0, std^2 I) summed over all but the first dimension, nats, float64 (B,)."""
    flat = x.reshape(x.shape[0], -1).to(torch.float64)
    return -0.5 * (flat / std).square().sum(1) - flat.shape[1] * (math.log(std) + 0.5 * math.log(2 * math.pi))
