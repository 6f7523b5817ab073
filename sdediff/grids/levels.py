"""Levels: the process at the times where a solver stops, evaluated once over a whole grid."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.tensors import times64
from sdediff.sde.base import SDE, LinearSDE, SDEError, kept, linear


class AtLam(float):
    """A place between two levels by half its log-SNR; the times of all of a run's are found at once."""


_FIELDS = ("alpha", "sigma", "lam", "alpha_dot", "sigma_dot", "f", "g2")


class Level:
    """The process at one time: t, alpha, sigma, lam, their slopes, f, g2; its place: index, grid, inner.

    On a grid every coefficient is a Python float, and a level is one object for as long as its grid is kept, so
    that it can be looked up by. In losses and likelihoods they are (B,) float64 tensors and index is 0. `inner`
    holds the levels that a single-step solver asked for between the one before and this one. A process without
    alpha and sigma has t and g2 alone.
    """

    __slots__ = (*_FIELDS, "grid", "index", "inner", "time")
    time: Any
    alpha: Any
    sigma: Any
    lam: Any
    alpha_dot: Any
    sigma_dot: Any
    f: Any
    g2: Any

    def __init__(self, time: Any, **fields: Any) -> None:
        self.time = time
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
        return f"Level(time={self.time!r}, index={self.index} of {len(self.grid)})"

    @property
    def next(self) -> Level | None:
        """The level after this one on the grid; None at the last."""
        return self.grid[self.index + 1] if self.index + 1 < len(self.grid) else None

    def within(self, inner: Iterable[Level]) -> Level:
        """This level as the end of a step that visits `inner`; this one is left as it is."""
        twin = Level(**dict(_values(self)))
        twin.index, twin.grid, twin.inner = self.index, self.grid, tuple(inner)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        # Level by level a grid would be written once within itself for every level that it has.
        rows = tuple([(_values(v), tuple(map(_values, v.inner))) for v in self.grid])
        return _restored, (
            rows if self.grid != (self,) else (),
            self.index,
            _values(self),
            tuple(map(_values, self.inner)),
        )

    @property
    def kappa(self) -> Any:
        """sigma / alpha, the noise level of x / alpha."""
        return self.sigma / self.alpha


def _values(here: Level) -> tuple[tuple[str, Any], ...]:
    """What a level knows of the process, by name."""
    found: list[tuple[str, Any]] = [("time", here.time)]
    for name in _FIELDS:
        with contextlib.suppress(SDEError):
            found.append((name, getattr(here, name)))
    return tuple(found)


def _restored(rows: tuple[Any, ...], index: int, own: Any, inner: Any) -> Level:
    """A level from what it was pickled as: one of its grid, or one that lies off it and knows its place there."""
    grid = _regained(rows)
    if grid and (own, inner) == rows[index]:
        return grid[index]
    found = Level(**dict(own))
    found.inner = tuple([Level(**dict(v)) for v in inner])
    found.index, found.grid = index, grid or (found,)
    return found


@functools.lru_cache(maxsize=64)
def _regained(rows: tuple[Any, ...]) -> tuple[Level, ...]:
    """The levels of a pickled grid, as `levels` would give them."""

    def made(values: Sequence[Any]) -> tuple[Level, ...]:
        names = tuple([name for name, _ in values[0][1:]])
        columns = zip(*[[number for _, number in one[1:]] for one in values], strict=True)
        return _made(tuple([one[0][1] for one in values]), names, tuple(columns))

    nodes = [one for _, inner in rows for one in inner]
    row = made([own for own, _ in rows]) if rows else ()
    return _visiting(row, made(nodes), tuple([len(inner) for _, inner in rows[1:]])) if nodes else row


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

    inner: (sde, t, s) -> times, or AtLam, between two neighbouring levels, kept on the later one. Grids are kept:
    asked again for equal ones, this gives the same levels.
    """
    row = _row(sde, tuple(times64(times).tolist()))
    if inner is None:
        return row
    nodes = [tuple(inner(sde, a, b)) for a, b in itertools.pairwise(row)]
    flat = tuple(itertools.chain(*nodes))
    if not flat:
        return row
    found = _row(sde, _times(sde, flat, tuple([isinstance(v, AtLam) for v in flat])))
    return _visiting(row, found, tuple(map(len, nodes)))


@kept
def _times(sde: SDE, nodes: tuple[float, ...], by_lam: tuple[bool, ...]) -> tuple[float, ...]:
    times, chosen = times64(nodes), torch.tensor(by_lam)
    if any(by_lam):
        times[chosen] = linear(sde).t_of_lam(times[chosen])
    return tuple(times.tolist())


@kept
def _row(sde: SDE, times: tuple[float, ...]) -> tuple[Level, ...]:
    if not times:
        return ()
    found = _coefficients(sde, times64(times))
    return _made(times, tuple(found), tuple([tuple(column.tolist()) for column in found.values()]))


@functools.lru_cache(maxsize=64)
def _made(
    times: tuple[float, ...], names: tuple[str, ...], columns: tuple[tuple[float, ...], ...]
) -> tuple[Level, ...]:
    """The levels of these coefficients, also of a process that may have changed since it was last asked."""
    rows = zip(times, *columns, strict=True)
    return _placed(tuple([Level(t, **dict(zip(names, values, strict=True))) for t, *values in rows]))


@functools.lru_cache(maxsize=64)
def _visiting(row: tuple[Level, ...], nodes: tuple[Level, ...], counts: tuple[int, ...]) -> tuple[Level, ...]:
    """The same row, whose moves visit so many of the nodes each."""
    rest = iter(nodes)
    found = _placed(tuple([v.within(itertools.islice(rest, n)) for v, n in zip(row, (0, *counts), strict=True)]))
    for level_ in found:
        level_.inner = tuple([node.within(()) for node in level_.inner])
        for node in level_.inner:
            node.index, node.grid = level_.index - 1, found
    return found


def _placed(row: tuple[Level, ...]) -> tuple[Level, ...]:
    for i, here in enumerate(row):
        here.index, here.grid = i, row
    return row


def _coefficients(sde: SDE, times: Tensor) -> dict[str, Tensor]:
    if isinstance(sde, LinearSDE):
        found = sde.schedule(times)
        return {name: getattr(found, name) for name in _FIELDS}
    return {"g2": times64(sde.diffusion(times)).expand_as(times) ** 2}
