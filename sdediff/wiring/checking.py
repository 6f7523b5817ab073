"""`check`: is the network wired right? One measurement on a few rows of data, and a verdict in one sentence."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from sdediff._utils.checks import state_device, state_dtype, whole
from sdediff._utils.errors import InputError
from sdediff.model.conditions import as_tensors
from sdediff.model.data_card import Range
from sdediff.model.data_check import ranged
from sdediff.model.ends import end_points, scale_of
from sdediff.model.parts import states_of
from sdediff.model.prediction import signed
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.sde.base import linear
from sdediff.wiring.judgement import FEWEST, KNOWS, RIGHT, LevelRow, judge
from sdediff.wiring.moments import SCALES, Moments, levels_within, measure
from sdediff.wiring.readings import Reading, References, errors_of, gain_of, gap_of, readings
from sdediff.wiring.report import WiringReport
from sdediff.wiring.rows import Rows, rows_of

# The fewest levels on which a network is judged.
_FEWEST_LEVELS = 3


def check(
    model: ScoreModel,
    data: Any = None,
    *,
    cond: dict[str, Any] | None = None,
    model_range: Range | None = None,
    rows: int = 128,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> WiringReport:
    """Measure on up to `rows` rows of data whether a network's parametrisation, clock, process and data fit.

    At ten levels of sigma/alpha, .1 to 5 times the data's standard deviation, the error of the denoised state is
    compared with the best Gaussian denoiser's (gain) and with that of the best linear reading x0 = a x + b F + c of
    the network's own output (gap): a network that is wired right is its own best reading. data: a DataSet, a path, a
    name such as "digits:train", or values (N, ...) as the network takes them; the Gaussian denoiser is fitted on
    other rows of them. cond: conditions, those with N rows have a row a sample. model_range: the range of values that
    the network was trained on, where its card has none. Below 50 rows, and without data, range and ends are compared
    alone. InputError: data of another shape, rows or outputs that are not finite.
    """
    began = time.perf_counter()
    model, conditions = check_model(model), as_tensors({} if cond is None else cond)
    if dtype is not None:
        state_dtype(dtype)
    if device is not None:
        state_device(device)
    if model_range is not None:
        model = ranged(model, model_range)
    if data is None:
        return _without_data(model, began)
    if not model.sde.linear:
        raise InputError("the check denoises at levels of sigma/alpha, which this process does not give")
    given = rows_of(model, data, whole("rows", rows, 1), whole("seed", seed, 0))
    std = given.std
    findings = given.findings + (end_points(model, std) if len(given.x) > 1 else ())
    if len(given.x) < FEWEST or not std > 0:
        why = f"{len(given.x)} rows are too few" if std > 0 else "all rows are equal"
        return _unmeasured(
            model, f"The network was not evaluated, {why}: give at least {FEWEST}.", findings, given, began
        )
    if len(levels_within(model, std)[1]) < _FEWEST_LEVELS:
        verdict = f"The process has too few levels from .1 to 5 times the data's standard deviation {std:.3g}."
        return _unmeasured(model, verdict, findings, given, began)
    conditions = {**model.cond, **conditions}
    moments = measure(model, given, conditions, seed, dtype, device)
    return _judged(model, given, moments, conditions, findings, began, (seed, dtype, device))


def _judged(
    model: ScoreModel, given: Rows, moments: Moments, cond: dict[str, Any], findings: tuple[str, ...], began: float,
    options: tuple[int, Any, Any],
) -> WiringReport:  # fmt: skip
    references = References.of(moments)
    errors = errors_of(model, moments, model.predicts, model.sigma_data)
    gain, gap = (estimate(errors, references, moments.row) for estimate in (gain_of, gap_of))
    found = readings(model, moments, references, given.std)
    write, calls = None, moments.calls
    if not (gap.value < RIGHT and references.info > KNOWS):
        write = _right_reading(model, found, references.info)
        if write is None and gap.value > RIGHT:
            write, more = _preconditioned(model, given, cond, options)
            calls += more
    judgement = judge(model.predicts, gain, gap, references.info, len(given.x), found[0], write)
    return WiringReport(
        judgement.status, judgement.verdict, findings, gain, references.info, gap,
        _level_rows(moments, references, errors, given.std), found, write, model.predicts, len(given.x), calls,
        time.perf_counter() - began, states_of(model),
    )  # fmt: skip


def _right_reading(model: ScoreModel, found: tuple[Reading, ...], info: float) -> str | None:
    """What to write where another reading of the same output is right, or the clear best one."""
    best, own = found[0], next(reading for reading in found if reading.predicts == model.predicts)
    if info <= KNOWS or best.predicts == model.predicts or best.gap > min(2 * RIGHT, own.gap / 2):
        return None
    # Where the input is preconditioned, or is to be, another measurement says.
    return None if is_edm(best.predicts) != is_edm(model.predicts) else _as_written(best.predicts, model.sigma_data)


def _preconditioned(
    model: ScoreModel, given: Rows, cond: dict[str, Any], options: tuple[int, Any, Any]
) -> tuple[str | None, int]:
    """What to write where the network wants its input preconditioned, or not: measured anew on some of the rows."""
    few = Rows(given.x[:FEWEST], given.index[:FEWEST], given.others, given.total, ())
    preconditioned = is_edm(model.predicts)
    if preconditioned:
        others = [model._with(predicts="eps", sigma_data=1.0)]
    else:
        # Round numbers that people write, and what a trainer measures.
        rounded = {float(f"{given.std:.1g}"), float(f"{given.deviation:.3g}"), 0.5, 1.0}
        scales = sorted(rounded, key=lambda scale: abs(math.log(scale / given.std)))
        others = [model._with(predicts="edm", sigma_data=scale) for scale in scales]
    best, calls = (2 * RIGHT, ""), 0
    for other in others:
        moments = measure(other, few, cond, *options, scales=SCALES[::2])
        references, calls = References.of(moments), calls + moments.calls
        for reading in readings(other, moments, references, given.std):
            fits = is_edm(reading.predicts) != preconditioned
            if references.info > KNOWS and reading.gap < best[0] and fits:
                best = reading.gap, _as_written(reading.predicts, other.sigma_data)
    return best[1] or None, calls


def is_edm(predicts: str) -> bool:
    """Whether the network's input is preconditioned."""
    return signed(predicts)[0] == "edm"


def _as_written(predicts: str, sigma_data: float) -> str:
    return f'predicts="{predicts}"' + (f", sigma_data={sigma_data:g}" if is_edm(predicts) else "")


def _level_rows(
    moments: Moments, references: References, errors: Any, std: float
) -> tuple[LevelRow, ...]:  # fmt: skip
    means = [part.mean(1) / moments.variance for part in (errors, references.gaussian, references.free)]
    return tuple(
        LevelRow(
            level.kappa, level.kappa / std, level.time, own.item(), gaussian.item(), free.item(), weight.item(),
            math.log(own.item() / free.item()) if own > 0 else -math.inf,
        )
        for level, own, gaussian, free, weight in zip(moments.levels, *means, references.weights, strict=True)
    )  # fmt: skip


def _without_data(model: ScoreModel, began: float) -> WiringReport:
    linear(model.sde)
    std = scale_of(model)
    findings = () if std is None else end_points(model, std)
    source = "its statistics" if model.stats is not None else "the range of its card"
    known = "nothing to compare the process with" if std is None else f"the process's ends compared with {source}"
    verdict = f"The network was not evaluated, without data: {known}."
    return _unmeasured(model, verdict, findings, None, began)


def _unmeasured(
    model: ScoreModel, verdict: str, findings: tuple[str, ...], given: Rows | None, began: float
) -> WiringReport:
    return WiringReport(
        "unmeasured", verdict, findings, None, None, None, (), (), None, model.predicts,
        0 if given is None else len(given.x), 0, time.perf_counter() - began, states_of(model),
    )  # fmt: skip
