"""Gauss-Legendre nodes in every step of a path, and the quadrature error estimated from neighbouring steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sdediff.integrate import TABLEAUS, Step, Tried
from sdediff.likelihood.whitened import per_row


class Nodes:
    """`count` Gauss nodes in every accepted step of every sample: row, number, phi, weight (n,), y, rate (n, ...).

    number counts the nodes of a sample in the order of its path; y is the continuous extension of the step, rate its
    slope dy/dphi. The attributes exist once the nodes are closed.
    """

    row: Tensor
    number: Tensor
    phi: Tensor
    weight: Tensor
    y: Tensor
    rate: Tensor

    def __init__(self, method: str, count: int, size: int) -> None:
        nodes, weights = np.polynomial.legendre.leggauss(count)
        self.shares, self.weights = (nodes + 1) / 2, weights / 2
        self.count = count
        self._interpolation = [TABLEAUS[method].between(self.shares, rate) for rate in (False, True)]
        self._steps = np.zeros(size, dtype=np.int64)
        self._visited: list[tuple[Tensor, ...]] = []

    def visit(self, step: Step, tried: Tried, good: np.ndarray) -> None:
        """Add the nodes of the steps that were accepted."""
        pick = torch.from_numpy(np.flatnonzero(good))
        if not len(pick):
            return
        rows, t, h = step.rows[pick], step.t[pick.numpy()], step.h[pick.numpy()]
        steps_before = self._steps[rows.numpy()]
        self._steps[rows.numpy()] += 1
        x, slopes = step.x[pick], [slope[pick] for slope in tried.slopes]
        for j, (share, weight) in enumerate(zip(self.shares, self.weights, strict=True)):
            rise, run = (_weighted_sum(slopes, weights[:, j]) for weights in self._interpolation)
            numbers, phi = torch.from_numpy(steps_before * self.count + j), torch.from_numpy(t + share * h)
            rate = run / per_row(torch.from_numpy(h), run)
            self._visited.append((rows, numbers, phi, torch.from_numpy(weight * h), x + rise, rate))

    def close(self, like: Tensor) -> None:
        """Concatenate the nodes of all visited steps; like: states (b, ...)."""
        none = torch.zeros(0, dtype=torch.int64)
        empty = (none, none, none.double(), none.double(), like[:0], like[:0])
        columns = map(torch.cat, zip(empty, *self._visited, strict=True))
        self.row, self.number, self.phi, self.weight, self.y, self.rate = columns
        self._visited = []

    def probes(self, mean: int, most: int) -> np.ndarray:
        """The number of probes of each node (n,): powers of two, `mean` on average, in proportion to the weights.

        Steps are short where the flow bends, at little noise and at much, and the probes' error there counts for
        little. `most` probes make the trace exact; if `mean` is that or 1, all nodes take `mean`.
        """
        if not 1 < mean < most:
            return np.full(len(self.row), mean)
        rows, weight = self.row.numpy(), self.weight.abs().numpy()
        share = weight / np.bincount(rows, weight)[rows] * np.bincount(rows)[rows]
        return np.clip(2 ** np.round(np.log2(mean * share)), 2, most).astype(np.int64)

    def batches(self, probes: np.ndarray) -> Iterator[tuple[int, int, Tensor]]:
        """(number, probes, which (b,)): the nodes of one number and one count of probes, in the samples' order."""
        keys = np.stack([self.number.numpy(), probes])
        order = np.lexsort((self.row.numpy(), *keys[::-1]))
        groups, starts = np.unique(keys[:, order], axis=1, return_index=True)
        for (number, count), pick in zip(groups.T.tolist(), np.split(order, starts[1:]), strict=True):
            yield number, count, torch.from_numpy(pick)


def _weighted_sum(slopes: list[Tensor], weights: np.ndarray) -> Tensor:
    total = torch.zeros_like(slopes[0])
    for slope, weight in zip(slopes, weights, strict=True):
        total = torch.add(total, slope, alpha=weight) if weight else total
    return total


def quadrature_error(nodes: Nodes, value: Tensor, variance: Tensor, size: int) -> Tensor:
    """The estimated error of the quadrature, (b,) nats, from the integrand's values (n,) and their variances.

    Over two neighbouring steps the rule is compared with the interpolatory rule that leaves out a node in their
    middle, one degree lower. The estimate is the root of the sum of squares, less the part that the probes explain.
    """
    errors = np.full(size, np.nan)
    rows, q = nodes.row.numpy(), nodes.count
    for row in np.unique(rows):
        own = np.flatnonzero(rows == row)
        own = own[np.argsort(nodes.number.numpy()[own])]
        columns = (v.numpy()[own].reshape(-1, q) for v in (nodes.phi, nodes.weight, value, variance))
        phi, weight, values, variances = (np.concatenate([v[:-1], v[1:]], axis=1) for v in columns)
        difference = _rule_difference(phi, weight)
        squares = (difference * values).sum(1) ** 2 - (difference**2 * np.nan_to_num(variances)).sum(1)
        errors[row] = np.sqrt(max(squares.sum(), 0.0)) if len(phi) else np.nan
    return torch.from_numpy(errors)


def _rule_difference(phi: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights (n, 2q) of Gauss's rule minus those of the rule without a node in the middle, on pairs of steps.

    Both are exact up to a degree of 2q - 2, so this is a multiple of the divided difference over all nodes.
    """
    gaps = (phi[:, :, None] - phi[:, None, :]) / weight.sum(1)[:, None, None]
    divided = 1 / (gaps + np.eye(phi.shape[1])).prod(2)
    middle = phi.shape[1] // 2
    return divided * (weight[:, middle] / divided[:, middle])[:, None]
