"""DPM-Solver-v3: the basis in which the flow is solved is fitted to the model's own statistics."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import ScoreModel
from sdediff.solvers.base import SolverError, finite
from sdediff.solvers.moves import STATES, Maker, Move, Output
from sdediff.solvers.multistep import Multistep
from sdediff.solvers.v3_statistics import PLAIN, ModelStatistics

_HALF, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_NODES, _WEIGHTS = (_HALF + 1) / 2, _WEIGHTS / 2
_POWERS = np.arange(len(_NODES))
# values at the nodes of [0, 1] -> their integral from 0 to each node
_INSIDE = (_NODES[:, None] ** (_POWERS + 1) / (_POWERS + 1)) @ np.linalg.inv(_NODES[:, None] ** _POWERS)


def _fitted(t: Level, found: ModelStatistics) -> dict[str, Any]:
    """f = (sigma eps - l x)/alpha by weights of eps and x0: numbers, or (D,) each."""
    share = found.linear(t.lam) if found.dims > 1 else found.linear(t.lam).item()
    return {"eps": (1 - share) * t.kappa, "x0": -share}


@functools.lru_cache(maxsize=16)
def _first(statistics: ModelStatistics) -> ModelStatistics:
    """The first of the statistics that are equal to these, so that comparing them later takes no time."""
    return statistics


class _V3Maker(NamedTuple):
    """Moves by a model's statistics."""

    statistics: ModelStatistics

    @property
    def size(self) -> int:
        """How many dimensions have numbers of their own; 0 where they share them."""
        return self.statistics.dims if self.statistics.dims > 1 else 0

    def output(self, prediction: Prediction) -> Output:
        """(sigma eps - l x)/alpha."""
        known, x = self.statistics, prediction.x
        finite(prediction.level, prediction.level.lam, "lam")
        if known.dims == 1:
            return prediction.weighed(_fitted, known)
        if known.dims * len(x) != x.numel():
            raise SolverError(
                f"statistics of {known.dims} dimensions for states {tuple(x.shape)}: measure them on its data"
            )
        return prediction.along(STATES, known.dims, _fitted, known)

    def __call__(self, t: Level, s: Level, past: tuple[Level, ...]) -> Move:
        """What becomes of x_t, of the outputs f at the levels `past`, and what is added: numbers, or (D,) each.

        e^L y_s = y_t - int e^(L+S) (g + B) dlam from t to s with y = x/alpha, L = int l, S = int s,
        B = int e^-S b, all from lam_t, and g = e^-S f - B replaced by its polynomial there.
        """
        found, at = self.statistics, [p.lam for p in past]
        given = {*at, t.lam, s.lam}
        ends = np.array(sorted({*given, *(v for v in found.lam.tolist() if min(given) < v < max(given))}))
        widths, start, stop = np.diff(ends), *(int(np.searchsorted(ends, v.lam)) for v in (t, s))
        u = ends[:-1, None] + widths[:, None] * _NODES

        def integral(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """From lam_t to every node, and to every end."""
            steps = widths[:, None] * np.einsum("nqd,q->nd", values, _WEIGHTS)
            to = np.concatenate([np.zeros_like(steps[:1]), np.cumsum(steps, axis=0)])
            to -= to[start]
            return to[:-1, None] + widths[:, None, None] * np.einsum("nqd,pq->npd", values, _INSIDE), to

        (big_l, l_end), (big_s, s_end) = (integral(v) for v in (found.linear(u), found.between("s", u)))
        big_b, b_end = integral(np.exp(-big_s) * found.between("b", u))
        # Towards data lam rises, on the way to the latent code it falls.
        step, sign = (slice(start, stop), 1) if stop > start else (slice(stop, start), -1)
        kernel = sign * (np.exp(big_l + big_s) * (widths[:, None] * _WEIGHTS)[..., None])[step]
        h = s.lam - t.lam
        place = (np.array(at) - t.lam) / h
        moments = np.stack([(kernel * ((u[step] - t.lam) / h)[..., None] ** k).sum((0, 1)) for k in range(len(at))])
        w = np.linalg.solve(place ** np.arange(len(at))[:, None], moments)
        outputs = np.searchsorted(ends, at)
        unit = -s.alpha * np.exp(-l_end[stop])
        constant = unit * ((kernel * big_b[step]).sum((0, 1)) - (w * b_end[outputs]).sum(0))
        on_x, on_outputs = -unit / t.alpha, unit * w * np.exp(-s_end[outputs])
        if found.dims == 1:
            return Move(on_x.item(), on_outputs[:, 0].tolist(), constant.item())
        return Move(on_x, list(on_outputs), constant)


@dataclass(frozen=True)
class DPMSolverV3(Multistep):
    """x_s = alpha_s e^-L (x/alpha_t - int e^(L+S) (g + B) dlam), g through the last `points` outputs.

    The output is f = (sigma eps - l x)/alpha; L, S, B are integrals of the model's statistics l, s, b. Without
    statistics it is the data prediction's. corrector: the outputs that correct the last step, the new one
    included. Order `points`, or what the corrector brings; 1 call a step. Zheng et al. 2023, eq. 15.
    """

    points: int = 2
    corrector: int = 3
    variable: str = field(default="lam", init=False)
    statistics: ModelStatistics = field(default=PLAIN, repr=False)

    reference = "Zheng et al. 2023, algorithm 1"

    def maker(self, model: ScoreModel, x: Tensor) -> Maker:
        return self._maker

    @functools.cached_property
    def _maker(self) -> _V3Maker:
        return _V3Maker(_first(self.statistics))


def dpm_solver_v3(order: int = 2, statistics: ModelStatistics | None = None, corrector: bool = True) -> DPMSolverV3:
    """DPM-Solver-v3 with the model's statistics, without them in the data prediction (DPM-Solver++).

    order: the predictor's, 1 to 3; the corrector brings one more. Zheng et al. 2023, algorithm 1.
    """
    if order not in (1, 2, 3):
        raise SolverError(f"order={order}: write 1, 2 or 3")
    return DPMSolverV3(order, order + 1 if corrector else 0, statistics or PLAIN)
