"""Times and levels: where a solver stops on its way from noise to data, and what the process is there.

A grid is n + 1 decreasing float64 times, n moves; it never contains sigma = 0 (the jump to data is
`sample`'s `denoise`). Levels are the process evaluated once over a whole grid.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff.sde import SDE, LinearSDE, SDEError, times64

GridLike = str | Callable[..., Tensor] | Sequence[float] | Tensor

_FIELDS = ("alpha", "sigma", "lam", "alpha_dot", "sigma_dot", "f", "g2")


class Level:
    """The process at one time: t, alpha, sigma, lam, their slopes, f, g2; its place: index, grid, inner.

    On a grid every coefficient is a Python float. In losses and likelihoods they are (B,) float64 tensors
    and index is 0. `inner` holds the levels that a single-step solver asked for between the one before
    and this one. A process without alpha and sigma has t and g2 alone.
    """

    __slots__ = (*_FIELDS, "grid", "index", "inner", "t")
    t: Any
    alpha: Any
    sigma: Any
    lam: Any
    alpha_dot: Any
    sigma_dot: Any
    f: Any
    g2: Any

    def __init__(self, t: Any, **fields: Any) -> None:
        self.t = t
        self.index = 0
        self.grid: tuple[Level, ...] = (self,)
        self.inner: tuple[Level, ...] = ()
        for name, value in fields.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in _FIELDS:
            raise SDEError(
                f"this process has no {name}: it gives drift and diffusion alone, so use euler_maruyama "
                "or a black-box solver, or write it as a LinearSDE with alpha(t) and sigma(t)"
            )
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"Level(t={self.t!r}, index={self.index} of {len(self.grid)})"

    @property
    def next(self) -> Level | None:
        """The level after this one on the grid; None at the last."""
        return self.grid[self.index + 1] if self.index + 1 < len(self.grid) else None

    @property
    def kappa(self) -> Any:
        """sigma / alpha, the noise level of x / alpha."""
        return self.sigma / self.alpha


def level(sde: SDE, t: Any) -> Level:
    """The level of a float or of a (B,) tensor of times; levels pass through."""
    if isinstance(t, Level):
        return t
    times = times64(t)
    fields = _coefficients(sde, times)
    if times.ndim == 0:
        return Level(times.item(), **{k: v.item() for k, v in fields.items()})
    return Level(times, **fields)


def levels(sde: SDE, times: Any, inner: Callable[..., Sequence[float]] | None = None) -> tuple[Level, ...]:
    """One level a time, each knowing its place; the process is evaluated once, over all times.

    inner: (sde, t, s) -> times between two neighbouring levels, kept on the later one.
    """
    row = _row(sde, times64(times))
    for i, here in enumerate(row):
        here.index, here.grid = i, row
    if inner is not None:
        nodes = [[float(v) for v in inner(sde, a, b)] for a, b in itertools.pairwise(row)]
        flat = iter(_row(sde, times64([v for group in nodes for v in group])))
        for b, group in zip(row[1:], nodes, strict=True):
            b.inner = tuple(next(flat) for _ in group)
            for node in b.inner:
                node.index, node.grid = b.index - 1, row
    return row


def _row(sde: SDE, times: Tensor) -> tuple[Level, ...]:
    if not len(times):
        return ()
    found = _coefficients(sde, times)
    rows = zip(*(column.tolist() for column in found.values()), strict=True)
    return tuple(Level(t, **dict(zip(found, row, strict=True))) for t, row in zip(times.tolist(), rows, strict=True))


def _coefficients(sde: SDE, times: Tensor) -> dict[str, Tensor]:
    if isinstance(sde, LinearSDE):
        found = sde.schedule(times)
        return {name: getattr(found, name) for name in _FIELDS}
    return {"g2": times64(sde.diffusion(times)).expand_as(times) ** 2}


def uniform(sde: SDE, n: int, start: float, stop: float) -> Tensor:
    """Equal steps in t."""
    return torch.linspace(start, stop, n + 1, dtype=torch.float64)


def quadratic(sde: SDE, n: int, start: float, stop: float, power: float = 2.0) -> Tensor:
    """Equal steps in t^(1/power). DDIM (Song et al. 2020, appendix D) has power 2."""
    return uniform(sde, n, start ** (1 / power), stop ** (1 / power)) ** power


def log_snr(sde: LinearSDE, n: int, start: float, stop: float) -> Tensor:
    """Equal steps in lam, half the log-SNR. Lu et al. 2022."""
    low, high = sde.lam([start, stop]).tolist()
    return sde.t_of_lam(torch.linspace(low, high, n + 1, dtype=torch.float64))


def karras(sde: LinearSDE, n: int, start: float, stop: float, rho: float = 7.0) -> Tensor:
    """Equal steps in (sigma/alpha)^(1/rho). Karras et al. 2022, eq. 5."""
    ends = torch.exp(-sde.lam([start, stop]) / rho)
    kappa = torch.linspace(ends[0].item(), ends[1].item(), n + 1, dtype=torch.float64) ** rho
    return sde.t_of_lam(-torch.log(kappa))


def angle(sde: LinearSDE, n: int, start: float, stop: float, sigma_data: float = 1.0, power: float = 1.0) -> Tensor:
    """Equal steps in phi^(1/power), phi = atan(sigma / (alpha sigma_data))."""
    ends = torch.atan(torch.exp(-sde.lam([start, stop])) / sigma_data) ** (1 / power)
    phi = torch.linspace(ends[0].item(), ends[1].item(), n + 1, dtype=torch.float64) ** power
    return sde.t_of_lam(-torch.log(sigma_data * torch.tan(phi)))


def knots(sde: SDE, n: int | None, start: float, stop: float) -> Tensor:
    """Every knot of a table from start down: its N knots are N - 1 moves."""
    _count(sde)
    times = torch.arange(math.floor(start), math.ceil(stop) - 1, -1, dtype=torch.float64)
    if n is not None and n != len(times) - 1:
        raise ValueError(
            f"the grid 'knots' has {len(times) - 1} moves, asked for {n}: leave steps out, or use 'strided'"
        )
    return times


def strided(sde: SDE, n: int, start: float, stop: float, spacing: str = "linspace") -> Tensor:
    """n + 1 knots of a table. spacing: "leading" and "trailing" step by N/(n + 1) from either end (leading
    rounds the stride down), "linspace" holds both ends. As common discrete samplers name them."""
    total = math.floor(start) - math.ceil(stop) + 1
    count = n + 1
    _count(sde)
    if count > total:
        raise ValueError(
            f"{count} distinct knots were asked of a table with {total}: ask for at most {total - 1} steps"
        )
    if spacing == "leading":
        times = torch.arange(count, dtype=torch.float64).mul(total // count).flip(0) + 1
    elif spacing == "trailing":
        times = (total - torch.arange(count, dtype=torch.float64) * total / count).round()
    elif spacing == "linspace":
        times = torch.from_numpy(np.linspace(0, total - 1, count).round()[::-1].copy()) + 1
    else:
        raise ValueError(f"spacing={spacing!r}: write 'leading', 'trailing' or 'linspace'")
    return times + math.ceil(stop) - 1


def _count(sde: SDE) -> int:
    n = getattr(sde, "n", None)
    if n is None:
        raise SDEError(f"{type(sde).__name__} has no knots: use another grid, or make a Table of it")
    return int(n)


GRIDS: dict[str, Callable[..., Tensor]] = {
    f.__name__: f for f in (uniform, quadratic, log_snr, karras, angle, knots, strided)
}
# In these alpha(T) = 0 is no place to start: lam is not finite there.
_NEED_LAM = ("log_snr", "karras")


def nearest(given: str, names: Iterable[str], what: str) -> str:
    """One sentence for an unknown name: what was given and the names closest to it."""
    known = sorted(names)
    close = difflib.get_close_matches(given, known, n=3, cutoff=0.4) or known
    return f"unknown {what} {given!r}: did you mean {', '.join(close)}?"


def grid(
    kind: GridLike,
    sde: SDE,
    n: int | None = None,
    start: float | None = None,
    stop: float | None = None,
    **options: Any,
) -> Tensor:
    """n + 1 decreasing float64 times from `start` (the process's T) down to `stop` (its t_min).

    kind: a name (uniform, quadratic, log_snr, karras, angle, knots, strided), a function
    (sde, n, start, stop) -> times, or the times themselves. Where alpha(T) = 0 the grids over the
    log-SNR start at t_max, just below T. Raises ValueError on a grid that does not fall.
    """
    if isinstance(kind, str) and kind not in GRIDS:
        raise ValueError(nearest(kind, GRIDS, "grid"))
    if isinstance(kind, str) or callable(kind):
        if (n is None and kind != "knots") or (n is not None and (n != int(n) or n < 1)):
            raise ValueError(f"steps={n}: a grid needs at least one step, a whole number of them")
        needs_lam = kind in _NEED_LAM
        if needs_lam and not isinstance(sde, LinearSDE):
            raise SDEError(f"the grid {kind!r} needs alpha and sigma, which {type(sde).__name__} does not give")
        start = (sde.t_max if needs_lam else sde.T) if start is None else float(start)
        stop = sde.t_min if stop is None else float(stop)
        if not sde.T >= start > stop >= 0:
            raise ValueError(f"a grid falls from start to stop within [0, {sde.T}], given start={start}, stop={stop}")
        if needs_lam and start > sde.t_max:
            raise SDEError(f"the grid {kind!r} needs alpha > 0 at its start, not so at t={start}: start={sde.t_max}")
        times = times64((GRIDS[kind] if isinstance(kind, str) else kind)(sde, n, start, stop, **options))
        if kind not in ("knots", "strided"):
            times[0], times[-1] = start, stop
    else:
        times = times64(kind)
    return _checked(times, sde)


def _checked(times: Tensor, sde: SDE) -> Tensor:
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"a grid is a row of at least two times, given the shape {tuple(times.shape)}")
    if not bool((times.diff() < 0).all()):
        raise ValueError(f"a grid falls strictly from noise to data, given {times.tolist()[:4]}...: sort it downwards")
    if not (0 <= times[-1].item() and times[0].item() <= sde.T):
        raise ValueError(f"grid times must lie in [0, {sde.T}], given {times[0].item()} to {times[-1].item()}")
    if isinstance(sde, LinearSDE) and sde.sigma(times[-1:]).item() == 0:
        raise ValueError(
            f"sigma is 0 at t={times[-1].item()}: end above it, at t_min={sde.t_min}; denoise=True jumps on"
        )
    return times
