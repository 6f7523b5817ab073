"""Levels: the process at the times where a solver stops, evaluated together for a whole run."""

from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import number, real_tensor, shown
from sdediff._utils.tensors import times64
from sdediff.sde.base import SDE, SDEError, linear
from sdediff.sde.checks import check_kind
from sdediff.sde.coefficients import drift_and_diffusion


class AtLam(float):
    """A place between two levels by half its log-SNR; the times of all of a run's places are found together."""


_VALUES = ("time", "alpha", "sigma", "lam")
_SLOPES = ("alpha_dot", "sigma_dot", "f", "g2")


class Level:
    """The process at one time: time, alpha, sigma, lam, alpha_dot, sigma_dot, f, g2; and its place in a run.

    On a grid the values are floats; in losses and likelihoods they are (B,) float64 tensors. index: the level's number
    on its grid. inner: the levels that the step to this one visits in between, as the solver's `inner` asks.
    coefficients: what the solver's `coefficients` gives for the step to this level. Slopes, f and g2 are evaluated for
    all levels of a run when one of them is first read. A process without alpha and sigma has time and g2 alone.
    """

    __slots__ = (*_VALUES, *_SLOPES, "coefficients", "evaluation", "index", "inner", "row")
    time: Any
    alpha: Any
    sigma: Any
    lam: Any
    alpha_dot: Any
    sigma_dot: Any
    f: Any
    g2: Any
    index: int
    inner: tuple[Level, ...]
    coefficients: Any
    evaluation: Evaluation | _Batch | None
    row: int

    def __getattr__(self, name: str) -> Any:
        # Reached only where the slot is empty.
        if name in _SLOPES and self.evaluation is not None and self.evaluation.sde.linear:
            self.evaluation.fill_slopes()
            return getattr(self, name)
        if name in (*_VALUES, *_SLOPES):
            raise SDEError(
                f"this process has no {name}: it gives drift and diffusion alone, so use euler_maruyama "
                "or a black-box solver, or write it as a LinearSDE with alpha(t) and sigma(t)"
            )
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"Level(time={self.time!r}, index={self.index})"

    @property
    def kappa(self) -> Any:
        """sigma / alpha, the noise level of x / alpha."""
        return self.sigma / self.alpha

    def copy(self) -> Level:
        """The same level as the end of another step, or the start of one: without inner levels and coefficients."""
        twin = Level()
        for name, value in self._numbers().items():
            setattr(twin, name, value)
        twin.inner, twin.coefficients, twin.evaluation, twin.row = (), None, self.evaluation, self.row
        if self.evaluation is not None:
            self.evaluation.levels.append(twin)
        return twin

    def _numbers(self) -> dict[str, Any]:
        names = (*_VALUES, *_SLOPES, "index")
        return {name: value for name in names if (value := _slot(self, name)) is not None}

    def __getstate__(self) -> dict[str, Any]:
        """The numbers alone, slopes included; what belongs to the run stays with it."""
        if self.evaluation is not None and self.evaluation.sde.linear and _slot(self, "g2") is None:
            self.evaluation.fill_slopes()
        return self._numbers()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.inner, self.coefficients, self.evaluation, self.row = (), None, None, 0
        for name, value in state.items():
            setattr(self, name, value)


def _slot(level_: Level, name: str) -> Any:
    """What a slot holds; None where it is empty, without an evaluation of the slopes."""
    try:
        return object.__getattribute__(level_, name)
    except AttributeError:
        return None


class Evaluation:
    """The process at all times of one run: a row a level, in the order in which times were added.

    levels: every level made of a row; copies share theirs.
    """

    def __init__(self, sde: SDE) -> None:
        self.sde, self.levels = sde, list[Level]()
        self._rows: tuple[list[float], ...] = ([], [], [], [])
        self._columns: Level | None = None

    def __len__(self) -> int:
        return len(self._rows[0])

    def at(self, times: Sequence[float] | Tensor, first_index: int | None = None) -> tuple[Level, ...]:
        """One level a time, numbered from `first_index` where given, else 0."""
        sde: Any = self.sde
        values, is_linear = times64(times), sde.linear
        row, index, self._columns = len(self._rows[0]), first_index or 0, None
        found: Sequence[Any] = sde.values(values) if is_linear else [_squared(sde.diffusion(values), values)]
        for column in found:
            if type(column) is not Tensor or column.shape != values.shape or column.dtype != values.dtype:
                raise SDEError(
                    f"{type(sde).__name__} gave coefficients that are no float64 tensors of the shape of "
                    f"{len(values)} times: compute them from t itself"
                )
        fields: list[list[float]] = list(map(methodcaller("tolist"), (values, *found)))
        for rows, column in zip(self._rows, fields, strict=False):
            rows += column
        added = list[Level]()
        for numbers in zip(*fields, strict=True):
            level_ = Level()
            if is_linear:
                level_.time, level_.alpha, level_.sigma, level_.lam = numbers
            else:
                level_.time, level_.g2 = numbers
            level_.inner, level_.coefficients, level_.evaluation, level_.row = (), None, self, row
            level_.index, row = index, row + 1
            index += first_index is not None
            added.append(level_)
        self.levels += added
        return tuple(added)

    def at_lam(self, lams: Sequence[float]) -> tuple[Level, ...]:
        """One level for each half log-SNR; at the process's ends where it does not reach that far."""
        return self.at(linear(self.sde).t_of_lam(lams)) if len(lams) else ()

    def at_places(self, places: Sequence[float]) -> tuple[Level, ...]:
        """One level for each place: a time, or an AtLam."""
        if not places:
            return ()
        times, by_lam = np.array(places, dtype=np.float64), np.array([isinstance(v, AtLam) for v in places])
        if by_lam.any():
            times[by_lam] = linear(self.sde).t_of_lam(times[by_lam]).detach().numpy()
        return self.at(torch.from_numpy(times))

    def columns(self) -> Level:
        """All rows as one level of (rows,) float64 arrays."""
        if self._columns is None:
            self._columns = columns = Level()
            columns.evaluation, columns.index = self, 0
            for name, rows in zip(_VALUES if self.sde.linear else ("time", "g2"), self._rows, strict=False):
                setattr(columns, name, np.array(rows))
        return self._columns

    def fill_slopes(self) -> None:
        """Evaluate the slopes, f and g^2 of every level together."""
        columns, sde = self.columns(), linear(self.sde)
        alpha_dot, sigma_dot = (v.detach().numpy() for v in sde.slopes(columns.time))
        with np.errstate(all="ignore"):
            slopes = (alpha_dot, sigma_dot, *drift_and_diffusion(columns.alpha, columns.sigma, alpha_dot, sigma_dot))
        for name, values in zip(_SLOPES, slopes, strict=True):
            setattr(columns, name, values)
            numbers = values.tolist()
            for level_ in self.levels:
                setattr(level_, name, numbers[level_.row])


def _squared(g: Any, times: Tensor) -> Tensor:
    """g^2 of a diffusion coefficient, one number for all times or one a time."""
    g = times64(g)
    return (g.expand_as(times) if not g.ndim else g) ** 2


class _Batch:
    """One level of (B,) tensors, whose slopes are evaluated when one is first read."""

    def __init__(self, sde: SDE, times: Tensor) -> None:
        self.sde, self.level = sde, Level()
        level_, self.levels = self.level, [self.level]
        level_.index, level_.row, level_.inner, level_.coefficients, level_.evaluation = 0, 0, (), None, self
        level_.time = times
        if sde.linear:
            level_.alpha, level_.sigma, level_.lam = linear(sde).values(times)
        else:
            level_.g2 = times64(sde.diffusion(times)).expand_as(times) ** 2

    def fill_slopes(self) -> None:
        dots = linear(self.sde).slopes(self.level.time)
        slopes = (*dots, *drift_and_diffusion(self.level.alpha, self.level.sigma, *dots))
        for level_ in self.levels:
            for name, value in zip(_SLOPES, slopes, strict=True):
                setattr(level_, name, value)


def level(sde: SDE, t: Any) -> Level:
    """The level of a float or of a (B,) tensor of times; levels pass through."""
    if isinstance(t, Level):
        return t
    check_kind(sde)
    if type(t) is not float and (not isinstance(t, Tensor) or t.is_meta or not t.is_floating_point() or t.ndim > 1):
        t = _real(t)
    times = sde.within(t)
    return _Batch(sde, times).level if times.ndim else Evaluation(sde).at(times[None])[0]


def _real(t: Any) -> Any:
    """A time as a float, or times as a float64 tensor, from other kinds of numbers."""
    times = real_tensor("t", t) if isinstance(t, np.ndarray | list | tuple | Tensor) else number("t", t)
    if isinstance(times, Tensor) and times.ndim > 1:
        raise SDEError(f"t={shown(t)}: give a time, or a row (B,) of times")
    return times


def levels(sde: SDE, times: Any) -> tuple[Level, ...]:
    """One level a time, numbered from 0; the process is evaluated once, over all times."""
    check_kind(sde)
    row = real_tensor("times", times).detach()
    if row.ndim != 1 or not bool(((row >= 0) & (row <= sde.T)).all()):
        raise SDEError(f"times={shown(times)}: give a row of times within [0, {sde.T}]")
    return Evaluation(sde).at(row, 0)
