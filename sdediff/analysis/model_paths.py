"""A model's own paths: starts with the exact ends of their flow, errors of solvers there, and grids tuned on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff.analysis.tuning import fixed_grids, search
from sdediff.model.conditions import conditions_in_turn
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import Sampler, sample
from sdediff.sampling.run import make_plan
from sdediff.solvers import Solver, SolverError
from sdediff.solvers import solver as resolve_solver

# Trained networks are not smooth enough for more to pay: on the digits this is within 7e-5 of DOP853 at 200 calls.
_FINE: dict[str, Any] = {"points": 3, "basis": "x0", "variable": "lam"}


class Errors(NamedTuple):
    """The rms distances a dimension of a solver over starts: their median, root mean square and quantile 0.9."""

    median: float
    rms: float
    q90: float = math.nan

    @classmethod
    def of(cls, distances: Tensor) -> Errors:
        """The figures of distances (B,)."""
        rms = distances.square().mean().sqrt().item()
        q90 = distances.double().quantile(0.9).item()
        return cls(distances.median().item(), rms, math.inf if math.isnan(q90) else q90)


@dataclass(frozen=True, eq=False, repr=False)
class Paths:
    """Starts x (B, ...) of a model's flow and their ends by a fine solution; options: those of its runs.

    reference_error: median rms distance a dimension, over a few starts, to the solution at half the calls; it
    exceeds the error of `end`.
    """

    model: ScoreModel
    x: Tensor
    end: Tensor
    calls: int
    reference_error: float
    options: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Paths({len(self.x)} starts, {self.calls} calls, reference error {self.reference_error:.1e})"

    @property
    def stop(self) -> float:
        """The time that the paths end at."""
        stop = self.options["stop"]
        return float(self.model.sde.t_min if stop is None else stop)

    @property
    def free_end(self) -> bool:
        """Whether a grid may end above `stop` and the denoising call jump from there: no stop was given."""
        return bool(self.options["denoise"]) and self.options["stop"] is None

    def subset(self, first: int, last: int) -> Paths:
        """The paths of the starts from `first` up to, not including, `last`."""
        part = slice(first, last)
        options = {
            **self.options,
            "cond": conditions_in_turn(self.options["cond"], range(first, last), self.model.shared),
        }
        return Paths(self.model, self.x[part], self.end[part], self.calls, self.reference_error, options)

    def fit(self, solver: Solver, calls: int) -> tuple[Solver, int]:
        """The solver fitted to so many calls, and its steps; ValueError where the calls are too few."""
        denoise, start = self.options["denoise"], self.options["start"]
        planned = make_plan(self.model, solver, calls=calls, grid="log_snr", start=start, denoise=denoise)
        return planned.solver, len(planned.times) - 1

    def errors(self, solver: Solver, times: Tensor) -> Tensor:
        """rms distance a dimension to the ends, (B,) float64; infinite where a result is not finite."""
        return self.distances(self.run(solver, times))

    def distances(self, x: Tensor) -> Tensor:
        """The same of results (B, ...)."""
        gap = (x.double() - self.end.double()).flatten(1)
        return torch.nan_to_num(gap.square().mean(1).sqrt(), nan=math.inf).cpu()

    def run(self, solver: Solver, times: Tensor) -> Tensor:
        """The results of a solver from these starts on these times."""
        sampler = Sampler(self.model, solver=solver, grid=times, denoise=self.options["denoise"])
        run = sampler.run(x=self.x, cond=self.options["cond"])
        with torch.no_grad():
            *_, end = run.states(check=False)
        return end.x if end.prediction is None else end.prediction.x0

    def error(self, solver: Solver, times: Tensor) -> float:
        """The median of `errors`."""
        return self.measured(solver, times).median

    def measured(self, solver: Solver, times: Tensor) -> Errors:
        """The median of `errors`, their root mean square and quantile 0.9."""
        return Errors.of(self.errors(solver, times))


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
    """Starts of shape (B, ...) from the prior, or x, and the ends of their flow by Adams of order 3 at so many calls.

    cond: the starts take the rows of tensors in turn; the other arguments are those of `sample`.
    SolverError on a process without alpha and sigma.
    """
    if not model.sde.linear:
        raise SolverError(f"{type(model.sde).__name__} does not give alpha and sigma: its solvers cannot be compared")
    begin = model.sde.t_max if start is None else start
    ends: dict[str, Any] = {"start": begin, "stop": stop, "denoise": denoise}
    fine: dict[str, Any] = {"solver": resolve_solver("adams", **_FINE), "grid": "log_snr", **ends}
    first = Sampler(model, solver=fine["solver"], steps=1, start=begin, stop=stop, dtype=dtype, device=device)
    x = first.run(tuple(shape) if x is None else None, x=x, seed=seed).x
    conditions = conditions_in_turn(cond, range(len(x)), model.shared)
    end = sample(model, x=x, calls=calls, cond=conditions, progress=progress, **fine)
    few = range(min(8, len(x)))
    fewer = conditions_in_turn(cond, few, model.shared)
    half = sample(model, x=x[: len(few)], calls=max(4, calls // 2), cond=fewer, progress=False, **fine)
    gap = (half - end[: len(few)]).double().flatten(1).square().mean(1).sqrt()
    return Paths(model, x, end, calls, gap.median().item(), {**ends, "cond": conditions})


def tune(
    paths: Paths,
    solver: str | Solver,
    steps: int,
    starts: Mapping[str, Tensor] | None = None,
    evaluations: int = 12,
) -> Tensor:
    """steps + 1 times tuned on a model's paths: the least sum of d^2/(1 + d^2), d a distance over the typical one.

    starts: grids to begin from, by default the fixed ones; the search begins at the best of them and takes about
    evaluations (steps + 1) runs of the solver. Where they end above `paths.stop` their ends are moved too. Confirm
    the result on other paths (`confirm`).
    """
    resolved = resolve_solver(solver)
    sde: Any = paths.model.sde
    grids = list((starts or fixed_grids(sde, steps, paths.options["start"], paths.stop)).values())
    typical = min(paths.error(resolved, times) for times in grids) or 1.0

    def residuals(times: Tensor) -> np.ndarray:
        gap = (paths.run(resolved, times).double() - paths.end.double()).flatten(1).cpu()
        distance = gap.square().mean(1, keepdim=True).sqrt() / typical
        # The weight of a path saturates above the typical distance: a few outliers do not move a median.
        return (gap / (typical * torch.sqrt(gap.shape[1] * (1 + distance.square())))).flatten().numpy()

    # Differences of a float32 network need a nudge well above its rounding.
    nudge = 1e-5 if paths.x.dtype == torch.float64 else 3e-3
    return search(residuals, sde, grids, 1, nudge=nudge, evaluations=evaluations, stop=paths.stop)


class GridChoice(NamedTuple):
    """A grid by its name and times, its median error on a model, and that of every grid compared."""

    name: str
    times: Tensor
    error: float
    errors: dict[str, float]

    def __repr__(self) -> str:
        return f"GridChoice({self.name!r}, {len(self.times)} times, error {self.error:.2e}, of {len(self.errors)})"


def confirm(paths: Paths, solver: str | Solver, grids: Mapping[str, Tensor]) -> GridChoice:
    """The grid with the least median error on these paths.

    Of equal errors the first given wins, so give the fixed grids first: a tuned one is then chosen only where it
    is better.
    """
    resolved = resolve_solver(solver)
    errors = {name: paths.error(resolved, times) for name, times in grids.items()}
    best = min(errors, key=errors.__getitem__)
    return GridChoice(best, grids[best], errors[best], errors)
