"""Divergence of a vector field: exact, or Hutchinson's estimate with orthogonal or independent probes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import per_sample
from sdediff.noise.counter import normals, uniforms

TRACES = ("exact", "hadamard", "rademacher", "gaussian")
# The number of vectors pulled back at once, which bounds the memory. On a CPU their product with the batch is about
# _ROWS, which fits into the caches (measured on a U-Net: at 32 states 1.4 times as fast as 64 vectors, at 100 states
# one vector at a time takes .8 of the time of four).
_BLOCK, _ROWS = 64, 128
_PROBE = 0x50000000


def probe_vectors(
    kind: str, x: Tensor, probes: int, seed: int, index: np.ndarray, node: int | None = None
) -> Tensor | None:
    """Probes (P, B, ...) with E[v v^T] = I, functions of (seed, sample index, node, probe); None for "exact".

    "hadamard": random signs times `probes` rows, drawn without repetition, of a Hadamard matrix of the next
    power of two N, so that N probes give the trace exactly; "rademacher": signs; "gaussian": unit normals.
    node: the number of the node where they are used, None for probes that stay the same along a path.
    """
    if kind not in TRACES:
        raise InputError(nearest(kind, TRACES, "trace"))
    if kind == "exact":
        return None
    if probes < 1:
        raise InputError(f"probes={probes}: at least one is needed")
    shape, word = tuple(x.shape[1:]), _PROBE if node is None else _PROBE + 1 + node
    if kind == "hadamard":
        vectors = _hadamard(x[0].numel(), probes, seed, index, word).reshape(probes, len(x), *shape)
    elif kind == "gaussian":
        vectors = np.stack([normals(seed, index, (word, p), shape) for p in range(probes)])
    else:
        vectors = np.stack([_signs(seed, index, (word, p), shape) for p in range(probes)])
    return torch.from_numpy(vectors).to(x)


def _signs(seed: int, index: np.ndarray, stream: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    return np.where(uniforms(seed, index, stream, shape) < 0.5, -1.0, 1.0)


def order(dims: int) -> int:
    """The next power of two: the size of the Hadamard matrix, and the greatest number of orthogonal probes."""
    return 1 << (dims - 1).bit_length()


def _hadamard(dims: int, probes: int, seed: int, index: np.ndarray, word: int) -> np.ndarray:
    """(P, B, D): rows of the matrix times signs, both drawn for each sample and node; after N probes, drawn again."""
    size, blocks = order(dims), []
    for block, first in enumerate(range(0, probes, size)):
        keys = uniforms(seed, index, (word, (1 << 20) + block), (size,))
        rows = np.argsort(keys, axis=1, kind="stable")[:, : min(size, probes - first)]
        blocks.append(_rows(rows.T, dims) * _signs(seed, index, (word, block), (dims,)))
    return np.concatenate(blocks)


def _rows(rows: np.ndarray, dims: int) -> np.ndarray:
    """Rows (P, B) of Sylvester's matrix cut to (P, B, D): -1 to the number of bits that row and column share."""
    shared = rows[..., None] & np.arange(dims)
    for shift in (32, 16, 8, 4, 2, 1):
        shared = shared ^ (shared >> shift)
    return 1.0 - 2.0 * (shared & 1)


def most_probes(kind: str, dims: int) -> int:
    """The number of probes that make the trace exact: 0 for "exact", very many for independent probes."""
    return {"exact": 0, "hadamard": order(dims)}.get(kind, 1 << 30)


class Moments(NamedTuple):
    """v^T J v and |J^T v|^2 of probes v, (P, B) float64: their means are tr J and |J|_F^2.

    pulled: J^T v (P, B, ...), in the states' dtype; None for the exact trace.
    """

    trace: Tensor
    square: Tensor
    pulled: Tensor | None = None


def divergence(
    value: Tensor, x: Tensor, vectors: Tensor | None, graph: bool = False, batch: int | None = None
) -> Tensor:
    """tr(d value / d x) of each sample, (P, B) float64, from a value (B, ...) computed from x with gradients on.

    vectors: probes (P, B, ...), or None for the exact trace (P = 1, one pull-back a dimension). graph: the result
    stays differentiable. batch: the batch size of the network call, where it was padded to more than B.
    """
    return moments(value, x, vectors, graph, batch).trace


def moments(value: Tensor, x: Tensor, vectors: Tensor | None, graph: bool = False, batch: int | None = None) -> Moments:
    """The moments of J = d value / d x by probes, or exact (P = 1); the arguments are those of `divergence`."""
    size = batch or len(x)
    blocks = vectors.split(_block(x, size)) if vectors is not None else _basis(x, size)
    parts = [_pulled(value, x, block, graph, vectors is not None) for block in blocks]
    traces, squares, pulled = zip(*parts, strict=True)
    trace, square = (torch.cat(column).double() for column in (traces, squares))
    if vectors is None:
        return Moments(trace.sum(0)[None], square.sum(0)[None])
    return Moments(trace, square, torch.cat(pulled))


def check_gradient(output: Tensor, x: Tensor, call: Callable[[Tensor], Tensor]) -> None:
    """Refuse an output that changes with x and carries no gradient to it: its divergence would be that of a constant.

    output: of a network at x, with gradients on. call: the network again, at other states.
    """
    if output.requires_grad:
        (pulled,) = torch.autograd.grad(output.sum(), x, retain_graph=True, allow_unused=True)
        if pulled is not None:
            return
    with torch.no_grad():
        other = call(x.detach() + 0.1)
    if not torch.equal(other, output.detach()):
        if torch.is_inference_mode_enabled():
            raise InputError(
                "torch.inference_mode() records no gradients, of which the divergence is made: score outside of it, or "
                "write autograd=False, which takes differences of two forwards"
            )
        raise InputError(
            "the network's output changes with x but carries no gradient to it (detach(), no_grad() or NumPy inside?): "
            "write autograd=False, which takes differences of two forwards"
        )


def _block(x: Tensor, batch: int) -> int:
    return min(_BLOCK, max(1, _ROWS // batch)) if x.device.type == "cpu" else _BLOCK


def _basis(x: Tensor, batch: int) -> Iterator[Tensor]:
    """The unit vectors (n, B, ...), in blocks."""
    dims, block = x[0].numel(), _block(x, batch)
    for start in range(0, dims, block):
        size = min(block, dims - start)
        basis = torch.zeros(size, dims, dtype=x.dtype, device=x.device)
        basis[torch.arange(size), torch.arange(start, start + size)] = 1.0
        yield basis.reshape(size, 1, *x.shape[1:]).expand(size, *x.shape)


def _pulled(
    value: Tensor, x: Tensor, vectors: Tensor, graph: bool, whole: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """v^T J v and |J^T v|^2 for every vector, (P, B), and the whole J^T v where it is asked for."""
    options: dict[str, Any] = {"retain_graph": True, "create_graph": graph, "materialize_grads": True}
    if not value.requires_grad:  # a constant
        pulled = torch.zeros_like(vectors)
    elif len(vectors) == 1:
        (pulled,) = torch.autograd.grad(value, x, vectors[0], **options)
        pulled = pulled[None]
    else:
        pulled = _batched(value, x, vectors, options)
    return (pulled * vectors).flatten(2).sum(2), pulled.square().flatten(2).sum(2), pulled if whole else None


def _batched(value: Tensor, x: Tensor, vectors: Tensor, options: dict[str, Any]) -> Tensor:
    """J^T v for every vector (P, B, ...), one by one where an operation of the network has no batched derivative."""
    try:
        (pulled,) = torch.autograd.grad(value, x, vectors, is_grads_batched=True, **options)
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        return torch.stack([torch.autograd.grad(value, x, vector, **options)[0] for vector in vectors])
    return pulled


def forward_divergence(field: Callable[[Tensor], Tensor], x: Tensor, vectors: Tensor | None, step: Any) -> Tensor:
    """tr(d field / d x) of each sample, (P, B) float64, by v^T (field(x + h v) - field(x - h v))/(2h): no gradients.

    field: states (2B, ...), the two sides stacked, to values shaped alike: one call, two forwards a probe.
    vectors: probes (P, B, ...), or None for the exact trace. step: h, a number or (B, 1, ...), for entries of size 1.
    """
    return forward_moments(field, x, vectors, step).trace


def forward_moments(field: Callable[[Tensor], Tensor], x: Tensor, vectors: Tensor | None, step: Any) -> Moments:
    """The moments of J = d field / d x, with |J v|^2 for |J^T v|^2; the arguments are those of `forward_divergence`."""
    blocks: Iterable[Tensor] = [vectors] if vectors is not None else _basis(x, len(x))
    traces, squares, pushed = [], [], []
    for v in (v for block in blocks for v in block):
        two = torch.cat([x + step * v, x - step * v])
        high, low = field(two).double().chunk(2)
        # Divide by the step after rounding, not by the step that was asked for.
        rounded = (two[: len(x)] - two[len(x) :]).double()
        scale = (rounded * v.double()).flatten(1).sum(1) / v.double().square().flatten(1).sum(1)
        traces.append((v.double() * (high - low)).flatten(1).sum(1) / scale)
        squares.append((high - low).square().flatten(1).sum(1) / scale**2)
        if vectors is not None:
            pushed.append((high - low) / per_sample(scale, high))
    trace, square = torch.stack(traces), torch.stack(squares)
    if vectors is None:
        return Moments(trace.sum(0)[None], square.sum(0)[None])
    return Moments(trace, square, torch.stack(pushed))
