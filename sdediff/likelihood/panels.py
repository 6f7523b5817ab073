"""Panels: the pieces of a path on which the divergence is integrated by Gauss-Legendre nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sdediff.likelihood.path_steps import PathSteps

# A sample's first panels; fewer would leave the comparison of neighbours without evidence.
_FEWEST = 3
# Panels of a sample, at most; with as many nodes as a round can number.
_MOST, ROUND = 4096, 1 << 16
# A panel split over more than this much of u = log tan(phi) becomes panels even in u, of at most twice unit length.
_BEND, _LENGTH = 0.5, 2.0


@dataclass(frozen=True, eq=False)
class Panels:
    """n panels, by row and then along the path, with q nodes each.

    row, step: the sample and its step in `PathSteps` (n,). low, high: the ends in phi, in the direction of the path.
    over_log: whether the nodes are Gauss's in u = log tan(phi). phi, weight, number (n, q): the nodes, their weights in
    phi, and their numbers among the nodes of the sample, which key the probes. new (n,): whether the last split made
    it, from the panel `parent` (n,) of those before.
    """

    row: np.ndarray
    step: np.ndarray
    low: np.ndarray
    high: np.ndarray
    over_log: np.ndarray
    phi: np.ndarray
    weight: np.ndarray
    number: np.ndarray
    new: np.ndarray
    parent: np.ndarray

    @classmethod
    def of_steps(cls, steps: PathSteps, count: int) -> Panels:
        """A panel a step with `count` nodes, and no fewer than three a sample."""
        row, step = steps.row, np.arange(len(steps.row))
        low, high = steps.start, steps.start + steps.length
        # Rounding leaves no gap between neighbours.
        inner = np.flatnonzero(row[1:] == row[:-1])
        high[inner] = low[inner + 1]
        while len(row):
            own, first = np.bincount(row)[row], np.searchsorted(row, row)
            widest = np.maximum.reduceat(np.abs(high - low), np.unique(first))
            split = (own < _FEWEST) & (np.abs(high - low) >= widest[np.unique(row, return_inverse=True)[1]])
            if not split.any():
                break
            parent, part, _ = _parts(np.where(split, 2, 1))
            middle = (low + high) / 2
            row, step, low, high = (
                row[parent], step[parent], np.where(part == 1, middle[parent], low[parent]),
                np.where(split[parent] & (part == 0), middle[parent], high[parent]),
            )  # fmt: skip
        new, nodes = np.full(len(row), True), np.zeros((len(row), count))
        made = cls(row, step, low, high, ~new, nodes, nodes.copy(), nodes.astype(np.int64), new, np.arange(len(row)))
        return made._with_nodes(0)

    def __len__(self) -> int:
        return len(self.row)

    def split(self, flagged: np.ndarray, turn: int) -> Panels:
        """The flagged panels (n,) in pieces, for the first, second, ... `turn` of refinement."""
        low, high = self.log_ends
        length = np.abs(high - low)
        over_log = self.over_log | (length > _BEND)
        pieces = np.where(over_log & (length > _BEND), np.maximum(2, np.ceil(length / _LENGTH)), 2).astype(np.int64)
        parent, part, parts = _parts(np.where(flagged, pieces, 1))
        split, bent = flagged[parent], over_log[parent] & flagged[parent]

        def edge(k: np.ndarray) -> np.ndarray:
            share = k / parts
            straight = self.low[parent] + share * (self.high - self.low)[parent]
            curved = np.arctan(np.exp(low[parent] + share * (high - low)[parent]))
            inside = np.where(bent, curved, straight)
            return np.where(k == 0, self.low[parent], np.where(k == parts, self.high[parent], inside))

        made = Panels(
            self.row[parent], self.step[parent], edge(part), edge(part + 1),
            np.where(split, bent, self.over_log[parent]),
            self.phi[parent], self.weight[parent], self.number[parent], split, parent,
        )  # fmt: skip
        return made._with_nodes(turn)

    def may_split(self, flagged: np.ndarray) -> np.ndarray:
        """The flagged panels of samples that have room for more of them."""
        room = np.bincount(self.row, minlength=1) * 2 <= min(_MOST, ROUND // self.phi.shape[1])
        return flagged & room[self.row]

    @property
    def log_ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The ends in u = log tan(phi)."""
        low, high = (np.log(np.tan(v)) for v in (self.low, self.high))
        return low, high

    def _with_nodes(self, turn: int) -> Panels:
        """The panels with the nodes of the new ones filled in."""
        new = np.flatnonzero(self.new)
        nodes, weights = np.polynomial.legendre.leggauss(self.phi.shape[1])
        shares, weights = (nodes + 1) / 2, weights / 2
        log_low, log_high = (v[new, None] for v in self.log_ends)
        low, high, bent = (v[new, None] for v in (self.low, self.high, self.over_log))
        straight = low + shares * (high - low)
        curved = np.arctan(np.exp(log_low + shares * (log_high - log_low)))
        bend = (log_high - log_low) * np.sin(curved) * np.cos(curved)
        phi, weight, number = self.phi.copy(), self.weight.copy(), self.number.copy()
        phi[new] = np.where(bent, curved, straight)
        weight[new] = weights * np.where(bent, bend, high - low)
        rank = np.arange(len(new)) - np.searchsorted(self.row[new], self.row[new])
        number[new] = turn * ROUND + rank[:, None] * len(shares) + np.arange(len(shares))
        return replace(self, phi=phi, weight=weight, number=number)


def _parts(pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For panels that become so many pieces (n,): of every piece its panel, its place in it, and their number (m,)."""
    parent = np.repeat(np.arange(len(pieces)), pieces)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    return parent, np.arange(len(parent)) - first, pieces[parent]
