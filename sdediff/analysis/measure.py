"""A model's own paths: starts with their exact ends, what a solver and a grid miss them by, grids tuned on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff.analysis.tuning import fixed_grids, search
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import sample
from sdediff.sampling.plan import plan
from sdediff.sampling.run import prepare
from sdediff.solvers import Solver, SolverError, solver

# A network is too rough for more to pay: on the digits this is within 7e-5 of DOP853 at 200 calls.
_FINE: dict[str, Any] = {"points": 3, "basis": "x0", "variable": "lam"}


@dataclass(frozen=True, eq=False)
class Paths:
    """Starts x (B, ...) of a model's flow and their ends, from a fine solution; options: those of its runs.

    unsure: median rms distance a dimension, over a few starts, to the solution at half the calls: above the
    error of `end`.
    """

    model: ScoreModel
    x: Tensor
    end: Tensor
    calls: int
    unsure: float
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def stop(self) -> float:
        """The time that the paths end at."""
        stop = self.options["stop"]
        return float(self.model.sde.t_min if stop is None else stop)

    @property
    def free(self) -> bool:
        """Whether a grid may end above `stop`, for the last call to jump from there: nobody asked for an end."""
        return bool(self.options["denoise"]) and self.options["stop"] is None

    def rows(self, first: int, last: int) -> Paths:
        """The paths of some starts alone."""
        part = slice(first, last)
        options = {**self.options, "cond": _conditions(self.options["cond"], range(first, last))}
        return Paths(self.model, self.x[part], self.end[part], self.calls, self.unsure, options)

    def fit(self, used: Solver, calls: int) -> tuple[Solver, int]:
        """The solver as it spends so many calls, and the moves that fit into them; ValueError where none does."""
        denoise, start = self.options["denoise"], self.options["start"]
        made = plan(self.model, used, calls=calls, grid_="log_snr", start=start, denoise=denoise)
        return made.solver, len(made.times) - 1

    def errors(self, used: Solver, times: Tensor) -> Tensor:
        """rms distance a dimension to the ends, (B,) float64; infinite where a result is not finite."""
        gap = (self.run(used, times).double() - self.end.double()).flatten(1)
        return torch.nan_to_num(gap.square().mean(1).sqrt(), nan=math.inf).cpu()

    def run(self, used: Solver, times: Tensor) -> Tensor:
        """What a solver makes of the starts on these times."""
        options = {**self.options, "start": None, "stop": None}
        return sample(self.model, x=self.x, solver=used, grid=times, progress=False, **options)

    def error(self, used: Solver, times: Tensor) -> float:
        """The median of `errors`."""
        return self.errors(used, times).median().item()


def paths(
    model: ScoreModel,
    shape: Sequence[int],
    calls: int = 200,
    *,
    x: Tensor | None = None,
    seed: int = 0,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> Paths:
    """shape[0] starts from the prior, or x, and the ends of their flow by Adams of order 3 at so many calls.

    cond: tensors give their rows to the starts in turn; the other arguments are those of `sample`.
    SolverError on a process without alpha and sigma.
    """
    if not model.sde.linear:
        raise SolverError(f"{type(model.sde).__name__} does not give alpha and sigma: its solvers cannot be compared")
    begin = model.sde.t_max if start is None else start
    ends: dict[str, Any] = {"start": begin, "stop": stop, "denoise": denoise}
    fine: dict[str, Any] = {"solver": solver("adams", **_FINE), "grid": "log_snr", **ends}
    given: dict[str, Any] = {"shape": tuple(shape)} if x is None else {"x": x}
    x = prepare(
        model, solver=fine["solver"], steps=1, start=begin, stop=stop, seed=seed, dtype=dtype, device=device, **given
    ).x
    known = _conditions(cond, range(len(x)))
    end = sample(model, x=x, calls=calls, cond=known, progress=progress, **fine)
    few = range(min(8, len(x)))
    half = sample(model, x=x[: len(few)], calls=max(4, calls // 2), cond=_conditions(cond, few), progress=False, **fine)
    gap = (half - end[: len(few)]).double().flatten(1).square().mean(1).sqrt()
    return Paths(model, x, end, calls, gap.median().item(), {**ends, "cond": known})


def _conditions(cond: dict[str, Any] | None, rows: range) -> dict[str, Any] | None:
    """What these starts are given: the rows of tensors in turn, all else as it is."""
    if cond is None:
        return None

    def chosen(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.ndim == 0:
            return value
        return value[torch.tensor(list(rows), device=value.device) % len(value)]

    return {name: chosen(value) for name, value in cond.items()}


def tune(
    on: Paths, n: int, used: str | Solver, starts: Mapping[str, Tensor] | None = None, evaluations: int = 12
) -> Tensor:
    """n + 1 times tuned on a model's own paths: the least sum of d^2/(1 + d^2), d a distance over the typical one.

    starts: grids to begin from, by default the fixed ones; the best of them is searched from, with about
    evaluations (n + 1) runs of the solver. Where they end above `on.stop` their ends move too. Confirm the
    result on other paths (`confirm`).
    """
    made = solver(used)
    sde: Any = on.model.sde
    grids = list((starts or fixed_grids(sde, n, on.options["start"], on.stop)).values())
    typical = min(on.error(made, times) for times in grids) or 1.0

    def residuals(times: Tensor) -> np.ndarray:
        gap = (on.run(made, times).double() - on.end.double()).flatten(1).cpu()
        far = gap.square().mean(1, keepdim=True).sqrt() / typical
        # A path's share levels off above the typical distance: the few that end elsewhere do not move a median.
        return (gap / (typical * torch.sqrt(gap.shape[1] * (1 + far.square())))).flatten().numpy()

    # Slopes by differences of a float32 network need a nudge well above its rounding.
    nudge = 1e-5 if on.x.dtype == torch.float64 else 3e-3
    return search(residuals, sde, grids, 1, nudge=nudge, evaluations=evaluations, stop=on.stop)


class Choice(NamedTuple):
    """A grid by its name and times, its median error on a model, and that of every grid measured beside it."""

    name: str
    times: Tensor
    error: float
    errors: dict[str, float]


def confirm(on: Paths, used: str | Solver, grids: Mapping[str, Tensor]) -> Choice:
    """The grid with the least median error on these paths: a tuned one is adopted only where it beats the fixed.

    Of equal errors the first given wins, so name the fixed ones first.
    """
    made = solver(used)
    errors = {name: on.error(made, times) for name, times in grids.items()}
    best = min(errors, key=errors.__getitem__)
    return Choice(best, grids[best], errors[best], errors)
