"""The variance of a trace estimated by few probes, and how well it is known: its degrees of freedom."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from sdediff.likelihood.student import Spread
from sdediff.likelihood.trace import order

# The vectors, at most, of whose pairs the effective rank is estimated.
_COMPARED = 6
_MOST_RANK = 1e6


def probe_spread(
    kind: str, vectors: Tensor | None, pulled: Tensor | None, like: Tensor, probes: int | None = None
) -> Spread:
    """The spread (b,) of the mean over probes v (P, b, ...) of v^T J v, from J^T v: NaN for one probe, 0 without any.

    For signs v^T J v is the sum over entries v_i (J^T v)_i, of variance sum_{j != i} J_ij^2 each, and for symmetric J
    its own variance is twice their sum, 2 sum_{i != j} J_ij^2; for normals it is 2 |J|_F^2. Any other J has at most
    as much. It is known better than from the spread of the P values: by P times the effective rank
    |J|_F^4/tr (J J^T)^2 degrees of freedom. Orthogonal probes are a sample without repetition of N that give
    the trace exactly: their variance is smaller by 1 - P/N. probes: P, where more vectors follow. like: (b,).
    """
    if vectors is None:
        return Spread(torch.zeros_like(like), torch.zeros_like(like))
    probes = len(vectors) if probes is None else probes
    if probes < 2 or pulled is None:
        nan = torch.full_like(like, torch.nan)
        return Spread(nan, nan)
    v, w = vectors.flatten(2), pulled.flatten(2)
    if kind == "gaussian":
        squares = _summed(w[:probes].square()) / probes
    else:
        entries = v * w
        mean = _rows_summed(entries[:probes]) / probes
        squares = _summed((entries[:probes] - mean).square()) / (probes - 1)
        # Signs give the trace of the isotropic part without noise.
        w = w - (_rows_summed(entries.sum(2)) / entries[:, 0].numel())[:, None] * v
    size = order(v.shape[2])
    share = 1 - probes / size if kind == "hadamard" and probes <= size else 1.0
    return Spread.of(2 * squares / probes * share, probes * _effective_rank(w[-_COMPARED:]))


def _rows_summed(rows: Tensor) -> Tensor:
    """The sum of rows (P, ...), one after the other: the last bit of a sum may depend on the number of samples."""
    total = torch.zeros_like(rows[0])
    for row in rows:
        total = total + row
    return total


def _summed(rows: Tensor) -> Tensor:
    """The sum (b,) of rows (P, b, D) over both P and D, float64."""
    return _rows_summed(rows.sum(2).double())


def _effective_rank(rows: Tensor) -> Tensor:
    """|J|_F^4/tr (J J^T)^2 (b,) from J^T v of independent vectors v (n, b, D): over pairs, |a|^2 |b|^2 over (a.b)^2."""
    squares = rows.square().sum(2).double()
    first, second = (list(side) for side in zip(*combinations(range(len(rows)), 2), strict=True))
    alike = _rows_summed((rows[first] * rows[second]).sum(2).double().square())
    apart = _rows_summed(squares[first] * squares[second])
    return torch.where(alike > apart / _MOST_RANK, apart / alike, _MOST_RANK)
