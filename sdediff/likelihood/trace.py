"""Divergence of a vector field: exact, or Hutchinson's estimate with Rademacher or Gaussian probes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sdediff.names import nearest
from sdediff.noise import normals, uniforms

TRACES = ("exact", "rademacher", "gaussian")
# Basis vectors pulled back at once by the exact trace: bounds its memory.
_BLOCK = 64
_PROBE = 0x50000000


def probe_vectors(kind: str, x: Tensor, probes: int, seed: int, index: np.ndarray) -> Tensor | None:
    """Probes (P, B, ...) with E[v v^T] = I, functions of (seed, sample index, probe); None for "exact"."""
    if kind not in TRACES:
        raise ValueError(nearest(kind, TRACES, "trace"))
    if kind == "exact":
        return None
    if probes < 1:
        raise ValueError(f"probes={probes}: at least one is needed")
    shape, drawn = tuple(x.shape[1:]), []
    for p in range(probes):
        if kind == "gaussian":
            drawn.append(normals(seed, index, (_PROBE, p), shape))
        else:
            drawn.append(np.where(uniforms(seed, index, (_PROBE, p), shape) < 0.5, -1.0, 1.0))
    return torch.from_numpy(np.stack(drawn)).to(x)


def divergence(value: Tensor, x: Tensor, vectors: Tensor | None) -> Tensor:
    """tr(d value / d x) a sample, (P, B) float64, from a value (B, ...) made of x with gradients on.

    vectors: probes (P, B, ...), or None for the exact trace (P = 1, one pull-back a dimension).
    """
    if vectors is not None:
        return _pulled(value, x, vectors).double()
    dims = x[0].numel()
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for start in range(0, dims, _BLOCK):
        size = min(_BLOCK, dims - start)
        basis = torch.zeros(size, dims, dtype=x.dtype, device=x.device)
        basis[torch.arange(size), torch.arange(start, start + size)] = 1.0
        basis = basis.reshape(size, 1, *x.shape[1:]).expand(size, *x.shape)
        total = total + _pulled(value, x, basis).double().sum(0)
    return total[None]


def _pulled(value: Tensor, x: Tensor, vectors: Tensor) -> Tensor:
    """v^T J v for every vector, (P, B)."""
    if len(vectors) == 1:
        (pulled,) = torch.autograd.grad(value, x, vectors[0], retain_graph=True)
        pulled = pulled[None]
    else:
        (pulled,) = torch.autograd.grad(value, x, vectors, retain_graph=True, is_grads_batched=True)
    return (pulled * vectors).flatten(2).sum(2)
