"""Which solver and grid for so many network evaluations on this model? `recommend` measures and chooses."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import listed, state_shape, whole
from sdediff._utils.errors import InputError
from sdediff.analysis.by_distance import DistanceSelection
from sdediff.analysis.candidates import Candidate, CandidateLike, command_line, python_line
from sdediff.analysis.kept import Kept
from sdediff.analysis.measuring import TUNING_STARTS, Selection, check_by
from sdediff.analysis.model_paths import Paths, paths
from sdediff.analysis.recommendation import Recommendation
from sdediff.grids.grids import GRIDS
from sdediff.model.data_check import check_source
from sdediff.model.data_statistics import Statistics, statistics
from sdediff.model.parts import states_of
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.sampling.run import make_plan, placement
from sdediff.solvers import Solver
from sdediff.wiring import warn_of_misfit

# The seed of the starts that `auto` measures on: samples drawn with another seed share no noise with them.
AUTO_SEED = 0x5DED1FF


def recommend(
    model: ScoreModel | str,
    sample_shape: Sequence[int] | None = None,
    *,
    calls: int = 10,
    data: Tensor | Statistics | None = None,
    candidates: Sequence[CandidateLike] | None = None,
    starts: int = 256,
    seed: int = 0,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
    keep: str | Path | None = None,
    refresh: bool = False,
    check: bool = True,
    by: str = "both",
) -> Recommendation:
    """The solver and grid with the least error on this model at so many network evaluations, by measurement.

    From `starts` starts of the prior each candidate is compared with a fine solution: all on 8 starts, the best
    twelfth on 48, then grids tuned for the best solvers, and the best of these on all. Chosen is the least median
    times squared rms error, so that rare starts are served too, but not at any cost to others. Unless stop is given,
    grids may end above t_min, and the denoising call jumps from there. sample_shape: of one sample, by default the
    card's or the data's. data: samples (N, ...) or their statistics, for tuned grids; the distance of
    the best to samples is shown too. by: "both", or one of "median", "q90", "rms" of the errors against the flow;
    "distance": stochastic solvers too, by the energy distance to data, screened by `analyse` on the spectrum.
    candidates: solvers, or pairs (solver, name of a grid). keep: a folder whose file for this model, these arguments
    and this version is read in place of a measurement, or written after it; refresh: measure in any case. check: begin
    with `sdediff.check` on up to 128 samples, or of the process's ends alone. The other arguments as in `sample`.
    """
    model = check_model(model)
    calls, starts = whole("calls", calls, 1), whole("starts", starts, 1)
    shape = _sample_shape(model, data, sample_shape)
    if data is not None:
        check_source(model, data)
    if refresh and keep is None:
        raise InputError("refresh=True has no effect without keep=: give the folder, or leave refresh out")
    options = {"start": start, "stop": stop, "denoise": denoise, "cond": cond, "dtype": dtype, "device": device}
    asked = {"shape": shape, "calls": calls, "data": data, "candidates": candidates, "starts": starts, "seed": seed}
    asked["by"] = check_by(by)
    kept = None if keep is None else _kept(keep, model, {**asked, **options})
    found = None if kept is None or refresh else kept.read()
    if found is None:
        if check:
            warn_of_misfit(model, data if isinstance(data, Tensor) else None, cond, dtype, device)
        found = _measured(model, shape, calls, data, candidates, starts, seed, progress, by, options)
        if kept is not None:
            kept.write(found)
    return found


def _kept(folder: str | Path, model: ScoreModel, asked: dict[str, Any]) -> Kept:
    """The file of one question, whose dtype and device are those that the model chooses where none are given."""
    kind, place = placement(model, asked["dtype"], asked["device"])
    return Kept(folder, model, {**asked, "dtype": kind, "device": place.type})


def _measured(
    model: ScoreModel,
    shape: tuple[int, ...],
    calls: int,
    data: Tensor | Statistics | None,
    candidates: Sequence[CandidateLike] | None,
    starts: int,
    seed: int,
    progress: bool | None,
    by: str,
    options: dict[str, Any],
) -> Recommendation:
    """The recommendation by measurement."""
    began = time.perf_counter()
    reference_calls = max(200, 16 * calls)
    reference = paths(model, (starts + TUNING_STARTS, *shape), reference_calls, seed=seed, progress=progress, **options)
    measured, tuning = reference.subset(0, starts), reference.subset(starts, starts + TUNING_STARTS)
    stats, rows_of = _statistics(model, data, reference), data if isinstance(data, Tensor) else None
    if by == "distance":
        chooser = DistanceSelection(measured, rows_of, stats, progress)
        ranked = chooser.ranked(candidates, calls)
        rows = chooser.rows
    else:
        selection = Selection(measured, tuning, stats, progress, by, rows_of)
        ranked = selection.confirmed(selection.with_tuned_grids(selection.finalists(candidates, calls)))
        rows = selection.rows(ranked)
    named = [entry for entry in ranked if _has_name(reference, entry[1], calls)]
    best, errors = ranked[0][1], rows[0]
    grid = best.grid if named and named[0][1] is best else tuple(best.times.tolist())
    # A stochastic solver has no error against the flow.
    figures = ((e.median if math.isfinite(e.median) else None, candidate) for e, candidate in named)
    commands = ((command_line(reference, candidate, calls), median) for median, candidate in figures)
    command, command_error = next((pair for pair in commands if pair[0]), (None, None))
    return Recommendation(
        best.named.solver, grid, best.times, calls, errors.error, errors.rms, tuple(rows),
        python_line(reference, best.named, grid, calls), command, command_error,
        reference_calls, reference.reference_error, time.perf_counter() - began, states_of(model), by,
    )  # fmt: skip


def auto(
    model: ScoreModel,
    shape: Sequence[int],
    calls: int | None = None,
    steps: int | None = None,
    *,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> tuple[Solver, Tensor]:
    """The recommended solver and its times (n + 1,) for states of shape (B, ...); every call measures anew.

    The budget is calls, or steps at one call each, by default 20. Measured on starts of its own, so that the choice
    does not depend on the samples to come. The other arguments as in `recommend`.
    """
    budget = calls if calls is not None else (20 if steps is None else steps) + denoise
    best = recommend(
        model, shape[1:], calls=budget, seed=AUTO_SEED, start=start, stop=stop, denoise=denoise,
        cond=cond, dtype=dtype, device=device, progress=progress,
    )  # fmt: skip
    return best.solver, best.times


def _has_name(reference: Paths, candidate: Candidate, calls: int) -> bool:
    """Whether sampling with the name of the grid gives these times."""
    if candidate.grid not in GRIDS:
        return False
    stop, denoise = reference.options["stop"], reference.options["denoise"]
    planned = make_plan(
        reference.model, candidate.named.solver, calls=calls, grid=candidate.grid, stop=stop, denoise=denoise
    )  # fmt: skip
    return torch.equal(planned.times, candidate.times)


def _sample_shape(model: ScoreModel, data: Tensor | Statistics | None, given: Sequence[int] | None) -> tuple[int, ...]:
    if given is not None:
        return state_shape((1, *listed("sample_shape", given, "(1, 8, 8)")))[1:]
    shape: Any = (model.card.get("data") or {}).get("shape")
    for source in (data, model.stats):
        if shape is None and source is not None:
            shape = source.mean.shape if isinstance(source, Statistics) else source.shape[1:]
    if shape is None:
        raise InputError(
            "the model's card does not say the shape of a sample: give sample_shape=, such as (1, 8, 8)"
        )  # fmt: skip
    return tuple(shape)


def _statistics(model: ScoreModel, data: Tensor | Statistics | None, reference: Paths) -> Statistics:
    source = data if data is not None else model.stats
    if source is None:
        source = reference.end.cpu()
    return source if isinstance(source, Statistics) else statistics(source)
