"""DPM-Solver-v3: the basis in which the flow is solved is fitted to the model's own statistics."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sdediff.levels import Level, Point, levels
from sdediff.model import ScoreModel
from sdediff.noise import Counter
from sdediff.prediction import Prediction
from sdediff.sde import LinearSDE, product
from sdediff.solvers.adams import Multistep, Output, added
from sdediff.solvers.base import SolverError, finite

_HALF, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_NODES, _WEIGHTS = (_HALF + 1) / 2, _WEIGHTS / 2
_POWERS = np.arange(len(_NODES))
# values at the nodes of [0, 1] -> their integral from 0 to each node
_INSIDE = (_NODES[:, None] ** (_POWERS + 1) / (_POWERS + 1)) @ np.linalg.inv(_NODES[:, None] ** _POWERS)


@dataclass(frozen=True)
class ModelStatistics:
    """l, s and b at ascending lam; in between l is a monotone cubic, s and b are linear; constant beyond the ends.

    The default, l = 1 and s = b = 0, is the data prediction (DPM-Solver++); l = b = 0, s = -1 is the noise
    prediction (DPM-Solver). `model_statistics` measures them. Zheng et al. 2023, section 3.
    """

    lam: tuple[float, ...] = (0.0,)
    l: tuple[float, ...] = (1.0,)  # noqa: E741 - the paper's name
    s: tuple[float, ...] = (0.0,)
    b: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if not len(self.lam) == len(self.l) == len(self.s) == len(self.b) > 0:
            raise SolverError("statistics need l, s and b at every lam: give four tuples of one length")
        if any(b <= a for a, b in itertools.pairwise(self.lam)):
            raise SolverError("statistics need lam in ascending order")
        if not all(math.isfinite(v) for row in (self.lam, self.l, self.s, self.b) for v in row):
            raise SolverError("statistics hold a number that is not finite: measure them on more data")

    def linear(self, lam: np.ndarray | float) -> np.ndarray:
        """l at lam, with a continuous slope: the outputs that are made with it have to be smooth."""
        if len(self.lam) == 1:
            return np.full(np.shape(lam), self.l[0])
        return _cubic(self)(np.clip(lam, self.lam[0], self.lam[-1]))


@functools.lru_cache(maxsize=16)
def _cubic(found: ModelStatistics) -> Callable[[np.ndarray], np.ndarray]:
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(found.lam, found.l)


@functools.lru_cache(maxsize=1 << 12)
def coefficients(found: ModelStatistics, t: Point, s: Point, at: tuple[float, ...]) -> tuple[float, list[float], float]:
    """What becomes of x_t, of the outputs f at lam = at[j], and what is added to x_s.

    e^L y_s = y_t - int e^(L+S) (g + B) dlam from t to s with y = x/alpha, L = int l, S = int s,
    B = int e^-S b, all from lam_t, and g = e^-S f - B replaced by its polynomial at `at`.
    """
    given = {*at, t.lam, s.lam}
    ends = np.array(sorted({*given, *(v for v in found.lam if min(given) < v < max(given))}))
    widths, start, stop = np.diff(ends)[:, None], *(int(np.searchsorted(ends, v.lam)) for v in (t, s))
    u = ends[:-1, None] + widths * _NODES

    def integral(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From lam_t to every node, and to every end."""
        to = np.concatenate([[0.0], np.cumsum(widths[:, 0] * (values @ _WEIGHTS))])
        to -= to[start]
        return to[:-1, None] + widths * (values @ _INSIDE.T), to

    (big_l, l_end), (big_s, s_end) = (integral(v) for v in (found.linear(u), np.interp(u, found.lam, found.s)))
    big_b, b_end = integral(np.exp(-big_s) * np.interp(u, found.lam, found.b))
    # Towards data lam rises, on the way to the latent code it falls.
    step, sign = (slice(start, stop), 1) if stop > start else (slice(stop, start), -1)
    kernel = sign * (np.exp(big_l + big_s) * widths * _WEIGHTS)[step]
    h = s.lam - t.lam
    place = (np.array(at) - t.lam) / h
    moments = [float((kernel * ((u[step] - t.lam) / h) ** k).sum()) for k in range(len(at))]
    w = np.linalg.solve(place ** np.arange(len(at))[:, None], np.array(moments))
    outputs = np.searchsorted(ends, at)
    unit = -s.alpha * math.exp(-l_end[stop])
    constant = unit * float((kernel * big_b[step]).sum() - w @ b_end[outputs])
    return -unit / t.alpha, (unit * w * np.exp(-s_end[outputs])).tolist(), constant


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
    statistics: ModelStatistics = field(default=ModelStatistics(), repr=False)

    reference = "Zheng et al. 2023, algorithm 1"

    def output(self, model: ScoreModel, prediction: Prediction) -> Output:
        t = prediction.level
        finite(t, t.lam, "lam")
        l = float(self.statistics.linear(t.lam))  # noqa: E741
        return (t, *prediction.scaled(eps=(1 - l) * t.kappa, x0=-l))

    def over(self, model: ScoreModel, x: Tensor, t: Level, s: Level, past: Sequence[Output]) -> Tensor:
        at = tuple([p[0].lam for p in past])
        on_x, w, constant = coefficients(self.statistics, t.point, s.point, at)
        x = added(product(x, on_x), w, past)
        return x.add_(constant) if constant else x


def dpm_solver_v3(order: int = 2, statistics: ModelStatistics | None = None, corrector: bool = True) -> DPMSolverV3:
    """DPM-Solver-v3 with the model's statistics, without them in the data prediction (DPM-Solver++).

    order: the predictor's, 1 to 3; the corrector brings one more. Zheng et al. 2023, algorithm 1.
    """
    if order not in (1, 2, 3):
        raise SolverError(f"order={order}: write 1, 2 or 3")
    return DPMSolverV3(order, order + 1 if corrector else 0, statistics or ModelStatistics())


def model_statistics(model: ScoreModel, x0: Tensor, knots: int = 64, seed: int = 0) -> ModelStatistics:
    """l, s, b of a model at `knots` levels even in lam, from clean data x0 (B, ...) noised to each.

    l = sigma tr(d eps/dx)/D by one probe a sample; s, b the least squares of df/dlam = s f + b along the flow,
    by central differences; scalars, meant over samples and dimensions. 3 calls and a gradient a level.
    Zheng et al. 2023, eqs. 10 and 11.
    """
    sde = model.sde
    if not isinstance(sde, LinearSDE):
        raise SolverError(f"statistics are taken over lam, which {type(sde).__name__} does not give")
    if knots < 2 or len(x0) < 2:
        raise SolverError(f"knots={knots}, {len(x0)} samples: needed are two of both at least")
    delta = 1e-2
    low, high = (sde.lam(torch.tensor(v, dtype=torch.float64)).item() for v in (sde.t_max, sde.t_min))
    lam = torch.linspace(low + delta, high - delta, knots, dtype=torch.float64)
    rows = [levels(sde, sde.t_of_lam(lam + shift)) for shift in (0.0, delta, -delta)]
    # The same draws at every level keep the statistics smooth in lam, which the order of the solver rests on.
    z, probe = (Counter(seed)(rows[0][0], rows[0][0], x0, draw) for draw in (0, 1))
    measured = [_measure(model, x0, z, probe, *here) for here in zip(*rows, strict=True)]
    places = np.array([t.lam for t in rows[0]])
    l = np.array([m[0] for m in measured])  # noqa: E741
    found = []
    for here, slope, (_, mean, cov) in zip(l, np.gradient(l, places), measured, strict=True):
        # f = p - l y and df/dlam = (l - 1) p + q - l' y of p = kappa eps, q = kappa eps', y = x/alpha.
        f, dot = np.array([1.0, 0.0, -here]), np.array([here - 1, 1.0, -slope])
        spread = f @ cov @ f
        # A Gaussian's f does not vary at all, and s would have nothing to explain.
        along = f @ cov @ dot / spread if spread > 1e-9 * (f**2 @ np.diag(cov)) else 0.0
        found.append((along, dot @ mean - along * (f @ mean)))
    s, b = np.array(found).T
    return ModelStatistics(*(tuple(row.tolist()) for row in (places, l, s, b)))


def _measure(
    model: ScoreModel, x0: Tensor, z: Tensor, probe: Tensor, t: Level, after: Level, before: Level
) -> tuple[float, np.ndarray, np.ndarray]:
    """l, and the means (3,) and covariances (3, 3) of kappa eps, its kappa eps' along the flow, and x/alpha."""
    x = t.alpha * x0.detach() + t.sigma * z
    with torch.enable_grad():
        eps = model(x.requires_grad_(), t).eps
        (back,) = torch.autograd.grad((eps * probe).sum(), x)
    l = t.sigma * (back * probe).double().sum().item() / probe.double().square().sum().item()  # noqa: E741
    with torch.no_grad():
        y, eps = x.detach() / t.alpha, eps.detach()
        ends = [model(u.alpha * torch.add(y, eps, alpha=-t.kappa * (u.lam - t.lam)), u).eps for u in (after, before)]
        slope = (ends[0] - ends[1]) / (after.lam - before.lam)
        rows = torch.stack([v.double().flatten() for v in (t.kappa * eps, t.kappa * slope, y)])
        return l, rows.mean(dim=1).cpu().numpy(), torch.cov(rows).cpu().numpy()
