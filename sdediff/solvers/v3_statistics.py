"""Statistics of a network along its flow, in which DPM-Solver-v3 writes the flow's equation."""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff.grids.levels import Level, levels
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter
from sdediff.sde.base import linear
from sdediff.solvers.base import SolverError

_NAMES = ("lam", "l", "s", "b")


@dataclass(frozen=True, eq=False)
class ModelStatistics:
    """l, s and b at ascending lam (K,), each (K,), or (K, D) for D dimensions, float64.

    In between l is a monotone cubic, s and b are linear; constant beyond the ends. The default, l = 1 and s = b = 0, is
    the data prediction (DPM-Solver++); l = b = 0, s = -1 is the noise prediction (DPM-Solver). `model_statistics`
    measures them. A value: two of equal numbers are equal. Zheng et al. 2023, section 3.
    """

    lam: Any = (0.0,)
    l: Any = (1.0,)  # noqa: E741 - the paper's name
    s: Any = (0.0,)
    b: Any = (0.0,)

    def __post_init__(self) -> None:
        # The sum takes the sign off zeros: equal numbers have equal bytes.
        rows = [np.array(getattr(self, name), dtype=np.float64) + 0.0 for name in _NAMES]
        lam, *others = rows
        if {len(row) for row in others} != {len(lam)} or not len(lam) or len({row.shape for row in others}) > 1:
            raise SolverError("statistics need l, s and b at every lam: give four of one length")
        if (np.diff(lam) <= 0).any():
            raise SolverError("statistics need lam in ascending order")
        if not all(np.isfinite(row).all() for row in rows):
            raise SolverError("statistics hold a number that is not finite: measure them on more data")
        for name, row in zip(_NAMES, rows, strict=True):
            object.__setattr__(self, name, row)

    @functools.cached_property
    def _checksum(self) -> int:
        # A checksum, as hash() of bytes differs from process to process, and this is pickled.
        return zlib.crc32(b"".join(getattr(self, name).tobytes() for name in _NAMES))

    def __hash__(self) -> int:
        return self._checksum

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ModelStatistics):
            return NotImplemented
        return self is other or all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _NAMES)

    @functools.cached_property
    def dims(self) -> int:
        """D, or 1 where all dimensions share the numbers."""
        return self.l.shape[1] if self.l.ndim > 1 else 1

    def linear(self, lam: np.ndarray | float) -> np.ndarray:
        """l at lam (...), with a continuous slope: the outputs that are made with it have to be smooth. (..., D)."""
        if len(self.lam) == 1:
            return np.broadcast_to(_columns(self.l)[0], (*np.shape(lam), self.dims))
        from scipy.interpolate import PchipInterpolator

        return PchipInterpolator(self.lam, _columns(self.l))(np.clip(lam, self.lam[0], self.lam[-1]))

    def between(self, name: str, lam: np.ndarray) -> np.ndarray:
        """s or b at lam (...), by straight lines. (..., D)."""
        row = _columns(getattr(self, name))
        if len(row) == 1:
            return np.broadcast_to(row[0], (*lam.shape, self.dims))
        low = np.clip(np.searchsorted(self.lam, lam) - 1, 0, len(row) - 2)
        share = np.clip((lam - self.lam[low]) / (self.lam[low + 1] - self.lam[low]), 0.0, 1.0)[..., None]
        return row[low] + share * (row[low + 1] - row[low])


# The data prediction's.
PLAIN = ModelStatistics()


def _columns(row: np.ndarray) -> np.ndarray:
    return row if row.ndim > 1 else row[:, None]


def model_statistics(
    model: ScoreModel, x0: Tensor, knots: int = 64, seed: int = 0, shared: bool = False
) -> ModelStatistics:
    """l, s, b of a model at `knots` levels even in lam, from clean data x0 (B, ...) noised to each; (knots, D).

    l = sigma diag(d eps/dx) by one probe a sample; s, b the least squares of df/dlam = s f + b over samples along the
    flow, by central differences. shared: one number for all dimensions, where there are few samples. 3 calls and a
    gradient a level. Zheng et al. 2023, eqs. 10 and 11.
    """
    sde = model.sde
    if not sde.linear:
        raise SolverError(f"statistics are taken over lam, which {type(sde).__name__} does not give")
    if knots < 2 or len(x0) < 2:
        raise SolverError(f"knots={knots}, {len(x0)} samples: needed are two of both at least")
    delta, sde = 1e-2, linear(sde)
    low, high = (sde.lam(torch.tensor(v, dtype=torch.float64)).item() for v in (sde.t_max, sde.t_min))
    lam = torch.linspace(low + delta, high - delta, knots, dtype=torch.float64)
    rows = [levels(sde, sde.t_of_lam(lam + shift)) for shift in (0.0, delta, -delta)]
    # The same draws at every level keep the statistics smooth in lam, which the order of the solver rests on.
    z, probe = (Counter(seed)(rows[0][0], rows[0][0], x0, draw) for draw in (0, 1))
    measured = [_measure(model, x0, z, probe, shared, *row) for row in zip(*rows, strict=True)]
    places = np.array([t.lam for t in rows[0]])
    own = np.stack([m[0] for m in measured])
    s, b = zip(*map(_regressed, own, np.gradient(own, places, axis=0), measured), strict=True)
    fitted = [row[:, 0] if shared else row for row in (own, np.stack(s), np.stack(b))]
    return ModelStatistics(places, *fitted)


def _regressed(own: np.ndarray, slope: np.ndarray, seen: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """s and b (D,) from l, its slope in lam, and the moments (3, D) and (3, 3, D) of `_measure`.

    f = p - l y and df/dlam = (l - 1) p + q - l' y of p = kappa eps, q = kappa eps', y = x/alpha.
    """
    _, mean, cov = seen
    one, none = np.ones_like(own), np.zeros_like(own)
    f, dot = np.stack([one, none, -own]), np.stack([own - 1, one, -slope])
    spread, both = (np.einsum("id,ijd,jd->d", f, cov, v) for v in (f, dot))
    # A Gaussian's f does not vary at all, and s would have nothing to explain.
    some = spread > 1e-9 * np.einsum("id,iid->d", f**2, cov)
    along = np.where(some, both / np.where(some, spread, 1.0), 0.0)
    return along, (dot * mean).sum(0) - along * (f * mean).sum(0)


def _measure(
    model: ScoreModel, x0: Tensor, z: Tensor, probe: Tensor, shared: bool, t: Level, after: Level, before: Level
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """l (D,); means (3, D) and covariances (3, 3, D) of kappa eps, kappa eps' along the flow, and x/alpha."""
    x = t.alpha * x0.detach() + t.sigma * z
    axis = (-1, 1) if shared else (len(x0), -1)
    with torch.enable_grad():
        eps = model(x.requires_grad_(), t).eps
        (back,) = torch.autograd.grad((eps * probe).sum(), x)
    up, down = ((v * probe).double().reshape(axis).sum(0) for v in (back, probe))
    with torch.no_grad():
        y, eps = x.detach() / t.alpha, eps.detach()
        ends = [model(u.alpha * torch.add(y, eps, alpha=-t.kappa * (u.lam - t.lam)), u).eps for u in (after, before)]
        slope = (ends[0] - ends[1]) / (after.lam - before.lam)
        rows = torch.stack([v.double().reshape(axis) for v in (t.kappa * eps, t.kappa * slope, y)])
        mean = rows.mean(1)
        apart = rows - mean[:, None]
        cov = torch.einsum("ind,jnd->ijd", apart, apart) / (rows.shape[1] - 1)
    return (t.sigma * up / down).cpu().numpy(), mean.cpu().numpy(), cov.cpu().numpy()
