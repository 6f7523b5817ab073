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
from sdediff.likelihood.student import Spread
from sdediff.likelihood.task import Task
from sdediff.likelihood.trace import most_probes, trace_error
from sdediff.likelihood.whitened import Whitened

_ROUNDS = 8


class Integrals(NamedTuple):
    """Per sample (b,), on the host: the integral of the divergence, by fresh probes and by the common one.

    spread: of the fresh probes. correction: of the path by the score; path_error: the sum of its sizes, a step at a
    time. quadrature_error: of the integrals.
    """

    divergence: Tensor
    common: Tensor
    spread: Spread
    correction: Tensor
    path_error: Tensor
    quadrature_error: Tensor


class _Values(NamedTuple):
    """At the nodes (n, q): the divergence, its variance, its probes, that of the common probe, and s (y' - f)."""

    divergence: np.ndarray
    variance: np.ndarray
    probes: np.ndarray
    common: np.ndarray
    along: np.ndarray


def integrate_divergence(
    task: Task, coordinates: Whitened, net: Network, steps: PathSteps, good: np.ndarray, fresh: bool = True
) -> Integrals:
    """The integrals over the path of every sample; panels are split for those that are good (b,).

    fresh=False: the common probe alone.
    """
    size, dims = len(good), steps.x[0].numel() if len(steps.x) else 1
    panels = Panels.of_steps(steps, task.nodes)
    mean_weight = _sums(panels.row, np.abs(panels.weight).mean(1), size) / np.maximum(np.bincount(panels.row, minlength=size), 1)
    evaluation = _Evaluation(task, coordinates, net, steps, mean_weight, fresh)
    values = evaluation.fill(panels, _Values(*np.full((5, *panels.phi.shape), np.nan)))
    compared = indicator(panels, values.common - values.along, size)
    for turn in range(1, _ROUNDS + 1):
        flagged = compared.flags(panels, 4 * task.rtol * (dims + 8)) & good[panels.row]
        if not flagged.any():
            break
        panels = panels.split(flagged, turn)
        old = (np.where(panels.parent[:, None] < 0, np.nan, column[panels.parent]) for column in values)
        values = evaluation.fill(panels, _Values(*old))
        compared = indicator(panels, values.common - values.along, size)
    return _integrals(panels, values, compared, size)


def _integrals(panels: Panels, values: _Values, compared: Indicator, size: int) -> Integrals:
    def total(column: np.ndarray) -> Tensor:
        return torch.from_numpy(_sums(panels.row, column.sum(1), size))

    weight = panels.weight
    variance = weight**2 * values.variance
    corrections = np.bincount(panels.step, (weight * values.along).sum(1))
    step_row = np.zeros(len(corrections), dtype=np.int64)
    step_row[panels.step] = panels.row
    return Integrals(
        total(weight * values.divergence), total(weight * values.common),
        Spread(total(variance), total(variance**2 / (values.probes + 1))), -total(weight * values.along),
        torch.from_numpy(_sums(step_row, np.abs(corrections), size)), torch.from_numpy(compared.error()),
    )  # fmt: skip


def _sums(rows: np.ndarray, column: np.ndarray, size: int) -> np.ndarray:
    """The sum over each sample's entries, (b,), one after the other: its last bit does not depend on other samples."""
    return np.bincount(rows, column, size)


class _Evaluation:
    """Evaluates the network at nodes of a path."""

    def __init__(
        self, task: Task, coordinates: Whitened, net: Network, steps: PathSteps, mean_weight: np.ndarray, fresh: bool
    ) -> None:
        self._task, self._coordinates, self._net, self._steps = task, coordinates, net, steps
        self._mean_weight, self._probes = mean_weight, task.probes if fresh else 0
        self._most = most_probes(task.trace, steps.x[0].numel() if len(steps.x) else 1)

    def fill(self, panels: Panels, values: _Values) -> _Values:
        """The values with those of new panels evaluated: the j-th new node of all samples at once."""
        new = np.flatnonzero(panels.parent < 0)
        shape = (len(new), panels.phi.shape[1])
        row, step = (np.broadcast_to(v[new, None], shape).ravel() for v in (panels.row, panels.step))
        phi, weight, number = (v[new].ravel() for v in (panels.phi, panels.weight, panels.number))
        columns = np.zeros((5, len(row)))
        counts = probe_counts(row, weight, self._mean_weight, self._probes, self._most)
        for node, probes, pick in _batches(row, number, counts):
            columns[:, pick] = self._at(row[pick], step[pick], phi[pick], node, probes)
        filled = [column.copy() for column in values]
        for column, found in zip(filled, columns, strict=True):
            column[new] = found.reshape(shape)
        return _Values(*filled)

    def _at(self, row: np.ndarray, step: np.ndarray, phi: np.ndarray, node: int, probes: int) -> np.ndarray:
        """The five values (5, b) at nodes of different samples."""
        task, coordinates, rows = self._task, self._coordinates, torch.from_numpy(row)
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
        variance = trace_error(task.trace, estimates, dims)
        counts = torch.full_like(common, max(probes, 1))
        return torch.stack([estimates.mean(0), variance, counts, common, along]).cpu().numpy()


def probe_counts(row: np.ndarray, weight: np.ndarray, mean_weight: np.ndarray, mean: int, most: int) -> np.ndarray:
    """The number of fresh probes of nodes (m,): powers of two, `mean` for the weight that is a sample's mean (b,).

    Steps are short where the flow bends, at little noise and at much, and the probes' error there counts for little.
    `most` probes make the trace exact; if `mean` is that or less than 2, all nodes take `mean`.
    """
    if not 1 < mean < most:
        return np.full(len(row), mean)
    share = np.abs(weight) / mean_weight[row]
    return np.clip(2 ** np.round(np.log2(mean * share)), 2, most).astype(np.int64)


def _batches(row: np.ndarray, number: np.ndarray, probes: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """(number, probes, which (b,)): the nodes of one number and one count of probes, in the samples' order."""
    keys = np.stack([number, probes])
    order = np.lexsort((row, *keys[::-1]))
    groups, starts = np.unique(keys[:, order], axis=1, return_index=True)
    for (node, count), pick in zip(groups.T.tolist(), np.split(order, starts[1:]), strict=True):
        yield node, count, pick
