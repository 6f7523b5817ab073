"""DPM-Solver-v3: the basis in which the flow is solved is fitted to the model's own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sdediff.grids.levels import Level
from sdediff.model.bound import BoundModel
from sdediff.solvers.base import SolverError, finite
from sdediff.solvers.coordinates import ByDimension, tensor
from sdediff.solvers.multistep import Family, Multistep
from sdediff.solvers.v3_statistics import PLAIN, ModelStatistics
from sdediff.solvers.weights import used_of, vandermonde

_HALF, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_NODES, _WEIGHTS = (_HALF + 1) / 2, _WEIGHTS / 2
_POWERS = np.arange(len(_NODES))
# values at the nodes of [0, 1] -> their integral from 0 to each node
_INSIDE = (_NODES[:, None] ** (_POWERS + 1) / (_POWERS + 1)) @ np.linalg.inv(_NODES[:, None] ** _POWERS)


class _Integrals:
    """Integrals of a model's statistics over the steps of a run, from its first level; arrays (..., D).

    With L = int l, S = int s, B = int e^-S b and y = x/alpha the flow from t to s is
    e^L y_s = y_t - int e^(L+S) (g + B) dlam, all from lam_t, and g = e^-S f - B is replaced by its polynomial.
    """

    def __init__(self, statistics: ModelStatistics, levels: Sequence[Level]) -> None:
        lams = np.array([v.lam for v in levels])
        knots = statistics.lam[(statistics.lam > lams.min()) & (statistics.lam < lams.max())]
        # Cells between neighbouring levels and knots, in the order of the run.
        ends = np.unique(np.concatenate([lams, knots]))[:: 1 if lams[-1] > lams[0] else -1]
        self._widths, u = np.diff(ends), ends[:-1, None] + np.diff(ends)[:, None] * _NODES
        self._at = np.searchsorted(ends * np.sign(lams[-1] - lams[0]), lams * np.sign(lams[-1] - lams[0]))
        inside_l, to_l = self._integral(statistics.linear(u))
        inside_s, to_s = self._integral(statistics.between("s", u))
        inside_b, to_b = self._integral(np.exp(-inside_s) * statistics.between("b", u))
        self.lam, self.step = lams, np.repeat(np.arange(len(levels) - 1), np.diff(self._at))
        self.to_l, self.to_s, self.to_b = to_l[self._at], to_s[self._at], to_b[self._at]
        # e^(L + S), from each step's own start, and the place of each node in its step.
        from_l, from_s = self.to_l[:-1][self.step][:, None], self.to_s[:-1][self.step][:, None]
        self._kernel = np.exp(inside_l - from_l + inside_s - from_s) * (self._widths[:, None] * _WEIGHTS)[..., None]
        h = np.diff(lams)[self.step][:, None]
        self._place = ((u - lams[:-1][self.step][:, None]) / h)[..., None]
        self._inside_b = inside_b

    def _integral(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From the first level to every node, and to every end of a cell."""
        cells = self._widths[:, None] * np.einsum("nqd,q->nd", values, _WEIGHTS)
        to = np.concatenate([np.zeros_like(cells[:1]), np.cumsum(cells, axis=0)])
        return to[:-1, None] + self._widths[:, None, None] * np.einsum("nqd,pq->npd", values, _INSIDE), to

    def moments(self, count: int) -> np.ndarray:
        """int e^(L+S) v^k dlam over every step, v from 0 to 1 along it, k < count: (steps, count, D)."""
        cells = np.stack([(self._kernel * self._place**k).sum(1) for k in range(count)], axis=1)
        return np.add.reduceat(cells, self._at[:-1], axis=0)

    def offset(self) -> np.ndarray:
        """int e^(L+S) B dlam over every step, B from the first level and S from the step's own: (steps, D)."""
        return np.add.reduceat((self._kernel * self._inside_b).sum(1), self._at[:-1], axis=0)


def _family(statistics: ModelStatistics, levels: Sequence[Level]) -> Family:
    """Outputs f = (sigma eps - l x)/alpha."""
    integrals = _Integrals(statistics, levels)
    alpha, kappa = (np.array([getattr(v, name) for v in levels])[:, None] for name in ("alpha", "kappa"))
    unit = -alpha[1:] * np.exp(-np.diff(integrals.to_l, axis=0))
    lam, growth = integrals.lam[:, None], np.exp(integrals.to_s)

    def weights(start: np.ndarray, newest: np.ndarray, counts: np.ndarray) -> np.ndarray:
        number = np.arange(max(2, int(counts.max())))[:, None]
        outputs = np.maximum(start + newest - number, 0)
        at = (lam[outputs] - lam[start]) / (lam[start + 1] - lam[start])
        moments = np.swapaxes(integrals.moments(len(number))[start], 0, 1)
        w = vandermonde(at, moments, (number < counts)[..., None])
        return np.swapaxes(unit[start] * growth[start] / growth[outputs] * w, 0, 1)

    linear = statistics.linear(integrals.lam)
    base = unit * growth[:-1] * integrals.offset()
    # e^-S f - B replaced by its polynomial: what B at an output's level takes off.
    return Family(-unit / alpha[:-1], weights, ((1 - linear) * kappa, -linear), base, -growth * integrals.to_b)


@dataclass(frozen=True)
class DPMSolverV3(Multistep):
    """x_s = alpha_s e^-L (x/alpha_t - int e^(L+S) (g + B) dlam), g through the last `points` outputs.

    The output is f = (sigma eps - l x)/alpha; L, S, B are integrals of the model's statistics l, s, b. Without
    statistics it is the data prediction's. corrector_points: the outputs that correct the last step, the new one
    included. Order `points`, or what the corrector brings; 1 call a step. Zheng et al. 2023, eq. 15.
    """

    points: int = 2
    corrector_points: int = 3
    variable: str = field(default="lam", init=False)
    statistics: ModelStatistics = field(default=PLAIN, repr=False)

    reference = "Zheng et al. 2023, algorithm 1"

    def family(self, model: BoundModel, levels: Sequence[Level]) -> Family:
        finite(levels[0], levels[0].lam, "lam")
        family, dims = _family(self.statistics, levels), self.statistics.dims
        if dims == 1:
            return family
        if dims != model.shape.numel():
            raise SolverError(
                f"statistics of {dims} dimensions for states {tuple(model.shape)}: measure them on this model's data"
            )

        def steps(w: np.ndarray, added: np.ndarray) -> list[ByDimension]:
            on_x, on_outputs, shift, on_eps, on_x0 = (
                tensor(v, model).unflatten(-1, model.shape) for v in (family.transfer, w, added, *family.output)
            )
            rows = [row[:count].unbind() for row, count in zip(on_outputs, used_of(w.any(axis=2)), strict=True)]
            columns = zip(on_x, rows, shift, on_eps[:-1], on_x0[:-1], strict=True)
            return [ByDimension(p, row, q, e, on_x0=d) for p, row, q, e, d in columns]

        return family._replace(steps=steps)


def dpm_solver_v3(order: int = 2, statistics: ModelStatistics | None = None, corrector: bool = True) -> DPMSolverV3:
    """DPM-Solver-v3 with the model's statistics, without them in the data prediction (DPM-Solver++).

    order: the predictor's, 1 to 3; the corrector brings one more. Zheng et al. 2023, algorithm 1.
    """
    if order not in (1, 2, 3):
        raise SolverError(f"order={order}: write 1, 2 or 3")
    return DPMSolverV3(order, order + 1 if corrector else 0, statistics or PLAIN)
