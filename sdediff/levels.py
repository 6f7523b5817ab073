"""Levels: the process at the times where a solver stops, evaluated once over a whole grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from sdediff.sde import SDE, LinearSDE, SDEError, times64


class Point(NamedTuple):
    """A level's place as a plain value, for what is computed once and kept."""

    t: float
    lam: float
    alpha: float
    sigma: float


class AtLam(float):
    """A place between two levels by half its log-SNR; the times of all of a run's are found at once."""


_FIELDS = ("alpha", "sigma", "lam", "alpha_dot", "sigma_dot", "f", "g2")


class Level:
    """The process at one time: t, alpha, sigma, lam, their slopes, f, g2; its place: index, grid, inner.

    On a grid every coefficient is a Python float. In losses and likelihoods they are (B,) float64 tensors
    and index is 0. `inner` holds the levels that a single-step solver asked for between the one before
    and this one. A process without alpha and sigma has t and g2 alone.
    """

    __slots__ = (*_FIELDS, "_point", "grid", "index", "inner", "t")
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
        self._point: Point | None = None
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

    def within(self, inner: Sequence[Level]) -> Level:
        """This level of a linear process as the end of a step that visits `inner`; this one is left as it is."""
        twin = Level(self.t)
        for name in _FIELDS:
            setattr(twin, name, getattr(self, name))
        twin.index, twin.grid, twin.inner = self.index, self.grid, tuple(inner)
        return twin

    @property
    def point(self) -> Point:
        """The level's place, made at the first asking."""
        if self._point is None:
            self._point = Point(self.t, self.lam, self.alpha, self.sigma)
        return self._point

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

    inner: (sde, t, s) -> times, or AtLam, between two neighbouring levels, kept on the later one.
    """
    row = _row(sde, times64(times))
    for i, here in enumerate(row):
        here.index, here.grid = i, row
    if inner is not None:
        nodes = [inner(sde, a, b) for a, b in itertools.pairwise(row)]
        flat = iter(_row(sde, _times(sde, list(itertools.chain(*nodes)))))
        for b, group in zip(row[1:], nodes, strict=True):
            b.inner = tuple(itertools.islice(flat, len(group)))
            for node in b.inner:
                node.index, node.grid = b.index - 1, row
    return row


def _times(sde: SDE, nodes: Sequence[float]) -> Tensor:
    times = times64([float(v) for v in nodes])
    by_lam = [i for i, v in enumerate(nodes) if isinstance(v, AtLam)]
    if by_lam:
        times[by_lam] = sde.t_of_lam(times[by_lam])  # type: ignore[attr-defined]
    return times


def _row(sde: SDE, times: Tensor) -> tuple[Level, ...]:
    if not len(times):
        return ()
    row = tuple([Level(t) for t in times.tolist()])
    for name, column in _coefficients(sde, times).items():
        for here, value in zip(row, column.tolist(), strict=True):
            setattr(here, name, value)
    return row


def _coefficients(sde: SDE, times: Tensor) -> dict[str, Tensor]:
    if isinstance(sde, LinearSDE):
        found = sde.schedule(times)
        return {name: getattr(found, name) for name in _FIELDS}
    return {"g2": times64(sde.diffusion(times)).expand_as(times) ** 2}
