"""The accepted steps of a path, and its states anywhere in between."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sdediff.integrate import TABLEAUS, Step, Tried
from sdediff.likelihood.whitened import per_row


class PathSteps:
    """Every accepted step of every sample, by row and then along its path: row, start, length (n,), float64.

    x, slopes: the states (n, ...) at the start and the stages (n, stages, ...) of the Runge-Kutta pair, of which the
    continuous extension is made. The attributes exist once the steps are closed.
    """

    row: np.ndarray
    start: np.ndarray
    length: np.ndarray
    x: Tensor
    slopes: Tensor

    def __init__(self, method: str) -> None:
        self._tableau = TABLEAUS[method]
        self._visited: list[tuple[np.ndarray, np.ndarray, np.ndarray, Tensor, Tensor]] = []

    def visit(self, step: Step, tried: Tried, good: np.ndarray) -> None:
        """Add the steps that were accepted."""
        accepted = np.flatnonzero(good)
        if len(accepted):
            pick = torch.from_numpy(accepted)
            slopes = torch.stack([slope[pick] for slope in tried.slopes], 1)
            self._visited.append(
                (step.rows.numpy()[accepted], step.t[accepted], step.h[accepted], step.x[pick], slopes)
            )

    def close(self, like: Tensor) -> None:
        """Sort the steps; like: states (b, ...)."""
        none = np.zeros(0)
        empty = (none.astype(np.int64), none, none, like[:0], like[:0, None])
        columns = list(zip(*(self._visited or [empty]), strict=True))
        row, start, length = (np.concatenate(column) for column in columns[:3])
        order = np.argsort(row, kind="stable")
        self.row, self.start, self.length = row[order], start[order], length[order]
        pick = torch.from_numpy(order)
        self.x, self.slopes = (torch.cat(column)[pick] for column in columns[3:])
        self._visited = []

    def at(self, which: np.ndarray, phi: np.ndarray) -> tuple[Tensor, Tensor]:
        """The state y and its slope dy/dphi (m, ...) on the steps `which` (m,) at phi (m,)."""
        share = (phi - self.start[which]) / self.length[which]
        pick = torch.from_numpy(which)
        slopes = self.slopes[pick]
        rise, run = torch.zeros((2, *slopes[:, 0].shape), dtype=slopes.dtype, device=slopes.device)
        for total, rate in ((rise, False), (run, True)):
            for stage, weights in enumerate(self._tableau.between(share, rate)):
                if weights.any():
                    total.add_(slopes[:, stage] * per_row(torch.from_numpy(weights), slopes[:, stage]))
        return self.x[pick] + rise, run / per_row(torch.from_numpy(self.length[which]), run)
