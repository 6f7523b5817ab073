"""Pass 2: the divergence along a path, on panels that are refined until it is integrated to the tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff.likelihood.network import Network
from sdediff.likelihood.panels import Panels
from sdediff.likelihood.path_steps import PathSteps
from sdediff.likelihood.quadrature import Indicator, indicator
from sdediff.likelihood.quadrature_error import quadrature_error
from sdediff.likelihood.student import Spread
from sdediff.likelihood.task import Task
from sdediff.likelihood.trace import most_probes
from sdediff.likelihood.whitened import Whitened

_ROUNDS = 8
# What the path's correction leaves at most, of its size summed a step at a time, and the tolerance at which the second
# order of the path's error doubles it: a network's score is not quite the gradient of the density of its flow.
_LEFT, _DOUBLES = 1.6, 2.5e-3


class Integrals(NamedTuple):
    """Per sample (b,), on the host: the integral of the divergence, by fresh probes and by the common one.

    spread: of the fresh probes. correction: of the path by the score. error: of the quadrature and of the path.
    """

    divergence: Tensor
    common: Tensor
    spread: Spread
    correction: Tensor
    error: Tensor


class _Values(NamedTuple):
    """At the nodes (n, q): the divergence and its spread; that of the common probe, its spread; s (y' - f).

    variance, squares: as in `Spread`. spread: the root of |J^T v|^2 - (v^T J v)^2/D of the common probe v, from which
    the probes of finer panels follow.
    """

    divergence: np.ndarray
    variance: np.ndarray
    squares: np.ndarray
    common: np.ndarray
    spread: np.ndarray
    along: np.ndarray


def integrate_divergence(
    task: Task, coordinates: Whitened, net: Network, steps: PathSteps, good: np.ndarray, fresh: bool = True
) -> Integrals:
    """The integrals over the path of every sample; panels are split for those that are good (b,).

    fresh=False: the common probe alone.
    """
    size, dims = len(good), steps.x[0].numel() if len(steps.x) else 1
    panels = Panels.of_steps(steps, task.nodes)
    evaluation = _Evaluation(task, coordinates, net, steps, fresh)
    values = _Values(*np.zeros((6, *panels.phi.shape)))
    importance = np.abs(panels.weight)
    values = evaluation.fill(panels, values, importance / _mean(panels.row, importance, size)[panels.row, None])
    reference = _mean(panels.row, importance * values.spread, size)
    compared = indicator(panels, values.common - values.along, size)
    for turn in range(1, _ROUNDS + 1):
        flagged = compared.flags(panels, 4 * task.rtol * (dims + 8)) & good[panels.row]
        if not flagged.any():
            break
        panels = panels.split(flagged, turn)
        values = _Values(*(column[panels.parent] for column in values))
        importance = np.abs(panels.weight) * values.spread.mean(1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = importance / reference[panels.row, None]
        values = evaluation.fill(panels, values, share)
        compared = indicator(panels, values.common - values.along, size)
    return _integrals(panels, values, compared, size, task.rtol)


def _integrals(panels: Panels, values: _Values, compared: Indicator, size: int, rtol: float) -> Integrals:
    def total(column: np.ndarray) -> Tensor:
        return torch.from_numpy(_sums(panels.row, column.sum(1), size))

    weight, along = panels.weight, panels.weight * values.along
    corrections, step_row = (
        np.bincount(panels.step, along.sum(1)),
        np.zeros(panels.step.max(initial=-1) + 1, dtype=np.int64),
    )
    step_row[panels.step] = panels.row
    path_error = _LEFT * (1 + rtol / _DOUBLES) * _sums(step_row, np.abs(corrections), size)
    # Where neighbours differ much in width the polynomial goes astray, and the indicator of lower order is less.
    smooth = np.minimum(quadrature_error(panels, values.common - values.along, size), compared.q2)
    error = np.sqrt(smooth**2 + compared.total(compared.bounded) ** 2 + path_error**2)
    return Integrals(
        total(weight * values.divergence), total(weight * values.common),
        Spread(total(weight**2 * values.variance), total(weight**4 * values.squares)), -total(along),
        torch.from_numpy(error),
    )  # fmt: skip


def _sums(rows: np.ndarray, column: np.ndarray, size: int) -> np.ndarray:
    """The sum over each sample's entries, (b,), one after the other: its last bit does not depend on other samples."""
    return np.bincount(rows, column, size)


def _mean(rows: np.ndarray, column: np.ndarray, size: int) -> np.ndarray:
    """The mean over each sample's nodes, (b,), of a column (n, q)."""
    return _sums(rows, column.mean(1), size) / np.maximum(np.bincount(rows, minlength=size), 1)


class _Evaluation:
    """Evaluates the network at nodes of a path."""

    def __init__(self, task: Task, coordinates: Whitened, net: Network, steps: PathSteps, fresh: bool) -> None:
        self._task, self._coordinates, self._net, self._steps = task, coordinates, net, steps
        self._probes = task.probes if fresh else 0
        self._most = most_probes(task.trace, steps.x[0].numel() if len(steps.x) else 1)

    def fill(self, panels: Panels, values: _Values, share: np.ndarray) -> _Values:
        """The values with those of new panels evaluated: the j-th new node of all samples at once.

        share: of the nodes (n, q), by which they take more or fewer probes than the task's.
        """
        new = np.flatnonzero(panels.new)
        shape = (len(new), panels.phi.shape[1])
        row, step = (np.broadcast_to(v[new, None], shape).ravel() for v in (panels.row, panels.step))
        phi, number = (v[new].ravel() for v in (panels.phi, panels.number))
        columns = np.zeros((len(values), len(row)))
        counts = probe_counts(share[new].ravel(), self._probes, self._most)
        for node, probes, pick in _batches(row, number, counts):
            columns[:, pick] = self._at(row[pick], step[pick], phi[pick], node, probes)
        filled = [column.copy() for column in values]
        for column, found in zip(filled, columns, strict=True):
            column[new] = found.reshape(shape)
        return _Values(*filled)

    def _at(self, row: np.ndarray, step: np.ndarray, phi: np.ndarray, node: int, probes: int) -> np.ndarray:
        """The values (6, b) at nodes of different samples."""
        coordinates, rows = self._coordinates, torch.from_numpy(row)
        y, rate = self._steps.at(step, phi)
        level, dims = coordinates.level(torch.from_numpy(phi)), y[0].numel()
        output = self._net.traced(coordinates.unwhiten(y, level), level, rows, node, probes, common=True)
        p, q, _ = coordinates.pair(level, output.pair)
        device, width = output.trace.device, coordinates.width(level)
        trivial, factor = (width * p * dims).to(device), (width * q).to(device)
        common = trivial + factor * output.common
        estimates = trivial + factor * output.trace if len(output.trace) else common[None]
        slope_error = rate.to(device) - coordinates.slope(output)
        along = (coordinates.score(output) * slope_error).flatten(1).sum(1)
        fresh = output.spread.scaled(factor)
        spread = factor.abs() * (output.common_square - output.common**2 / dims).clamp(min=0).sqrt()
        return torch.stack([estimates.mean(0), fresh.variance, fresh.squares, common, spread, along]).cpu().numpy()


def probe_counts(share: np.ndarray, mean: int, most: int) -> np.ndarray:
    """The number of fresh probes of nodes (m,): powers of two, `mean` where the share is 1.

    First the share is a node's weight over the mean of the sample's: steps are short where the flow bends, at little
    noise and at much, and the probes' error there counts for little. On finer panels it is that of the weight times
    the spread of the probes there. `most` probes make the trace exact; if `mean` is that or below 2, all take `mean`.
    """
    if not 1 < mean < most:
        return np.full(len(share), mean)
    with np.errstate(invalid="ignore", divide="ignore"):
        power = np.round(np.log2(mean * np.nan_to_num(share, nan=1.0)))
    return np.clip(2.0**power, 2, most).astype(np.int64)


def _batches(row: np.ndarray, number: np.ndarray, probes: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """(number, probes, which (b,)): the nodes of one number and one count of probes, in the samples' order."""
    if not len(row):
        return  # no sample has taken a step
    keys = np.stack([number, probes])
    order = np.lexsort((row, *keys[::-1]))
    groups, starts = np.unique(keys[:, order], axis=1, return_index=True)
    for (node, count), pick in zip(groups.T.tolist(), np.split(order, starts[1:]), strict=True):
        yield node, count, pick
