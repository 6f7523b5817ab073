"""Between latents: the codes that `encode` gives and `decode` takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import real_tensor, shown, states, whole
from sdediff._utils.errors import InputError
from sdediff._utils.tensors import per_sample


def lerp(a: Tensor, b: Tensor, w: float | Tensor) -> Tensor:
    """(1 - w) a + w b for states (B, ...) and w a float or (B,): the straight line."""
    _alike(a, b)
    w = _share(w, a)
    return per_sample(1 - w, a) * a + per_sample(w, a) * b


def slerp(a: Tensor, b: Tensor, w: float | Tensor) -> Tensor:
    """sin((1 - w) o)/sin(o) a + sin(w o)/sin(o) b, o the angle between a and b (B, ...): the arc, a sample each.

    w: a float or (B,). The straight line where a and b are parallel; refuses opposite ones, which no single arc
    joins. The norm of unit normals is kept, as a prior needs it. Shoemake 1985; Song et al. 2020, appendix D.5.
    """
    _alike(a, b)
    angle = _angle(a, b)
    if bool((angle > math.pi - 1e-4).any()):
        raise InputError("slerp was given opposite states, which no single arc joins: go by way of a third")
    w = _share(w, a)
    # sin(w o) / sin(o) without a division by zero: w sinc(w o) / sinc(o).
    turn = angle / math.pi
    on_a, on_b = (v * torch.sinc(v * turn) / torch.sinc(turn) for v in (1 - w, w))
    return per_sample(on_a, a) * a + per_sample(on_b, b) * b


def interpolate(a: Tensor, b: Tensor, n: int, along: Callable[[Tensor, Tensor, Any], Tensor] = slerp) -> Tensor:
    """n latents (n, B, ...) from a to b (B, ...), both included, at even w; along: slerp, lerp or a function."""
    if not callable(along):
        raise InputError(f"along={along!r:.60}: give slerp, lerp or a function (a, b, w) -> latents")
    if whole("n", n) < 2:
        raise InputError(f"n={n}: the two ends are part of the row, ask for at least 2")
    return torch.stack([along(a, b, i / (n - 1)) for i in range(n)])


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle between a and b, (B,) float64, accurate near 0 and pi."""
    a, b = (v.flatten(1).double() for v in (a, b))
    a, b = (v / v.norm(dim=1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny) for v in (a, b))
    return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))


def _share(w: float | Tensor, a: Tensor) -> Tensor:
    """A share, or one a sample, float64 on the states' device."""
    share = real_tensor("w", w).to(a.device)
    if share.shape not in ((), (len(a),)) or not bool(torch.isfinite(share).all()):
        raise InputError(f"w has the shape {tuple(share.shape)}: give one finite number, or one for each of {len(a)}")
    return share


def _alike(a: Tensor, b: Tensor) -> None:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape != b.shape or a.ndim < 2:
        given = f"{shown(a)} and {shown(b)}"
        raise InputError(f"needed are two batches of one shape (B, ...), given {given}")
    states("a", a)
    states("b", b)
