"""`infer`: how a network may be wired, by trying the usual ways on data; it always ends with the check."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sdediff._utils.checks import listed, shown, whole
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.progress import track
from sdediff.datasets import DataSet
from sdediff.model.conditions import as_tensors
from sdediff.model.network import check_eval, placement
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import LinearSDE, linear
from sdediff.sde.processes import VP
from sdediff.wiring.candidates import Wiring, candidates
from sdediff.wiring.checking import check
from sdediff.wiring.ranges import ranges_of
from sdediff.wiring.ranking import Inference, ranked
from sdediff.wiring.rows import data_of, rows_of
from sdediff.wiring.trial import SharedRows, Trial, attempt

# Levels, rows, and how many inputs go on to the next stage.
_STAGES = ((3, 2, 24), (5, 12, 6), (8, 48, 6))
_FEWEST = 50
# The fewest numbers of a level that a stage looks at: more rows where a row has few.
_NUMBERS = 64
# Inputs that are tried before a network is taken to look its clock up.
_PROBED = 12


def infer(
    network: Callable[..., Any] | ScoreModel,
    data: Any,
    *,
    cond: dict[str, Any] | None = None,
    processes: Sequence[LinearSDE] = (),
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> Inference:
    """Rank the usual wirings of a network on data: process, schedule, clock, range of values, sign and `predicts`.

    Some 500 inputs are tried on 2 rows at 3 noise levels, the best 24 on 12 rows at 5, the best 6 on 48 rows at 8, and
    on more rows of few dimensions, with the same rows and noise for all; each is read as every `predicts`. The score
    is the mean log of the denoising error over the best Gaussian denoiser's. Scores within .02 are one group, that
    these data cannot tell apart. The best one is then checked (`sd.check`), since the right one may not be on the list:
    `right` says so. network: a callable (x, clock, **cond), in eval mode. data: as for `check`, 50 rows or more. cond:
    conditions, those with N rows have a row a sample. processes: more processes to try. InputError: a network that
    raises with every wiring.
    """
    began = time.perf_counter()
    if not callable(network) or isinstance(network, type):
        raise InputTypeError(f"network={shown(network)}: give a callable (x, clock) -> tensor like x")
    processes = [linear(sde) for sde in listed("processes", processes, "[sd.VP(0.1, 10)]")]
    given = network if isinstance(network, ScoreModel) else ScoreModel(network, VP())
    fields: Any = {name: getattr(given, name) for name in ("cond", "per_sample", "shared", "output")}
    blank = ScoreModel(given.net, VP(), **fields)
    check_eval(blank)
    source = data_of(data)
    rows = rows_of(blank, source, _STAGES[-1][1], whole("seed", seed, 0))
    if len(rows.x) + len(rows.others) < _FEWEST or not rows.std > 0:
        raise InputError(f"{rows.total} rows are too few to tell wirings apart: give {_FEWEST} that differ, or more")
    kind, place = placement(blank, dtype, device)
    shared = SharedRows(rows, blank, {**given.cond, **as_tensors({} if cond is None else cond)}, seed, kind, place)
    mapped = isinstance(source, DataSet) and source.range is not None
    ranges = ranges_of(torch.cat([rows.x.flatten(), rows.others.flatten()]), (-1.0, 1.0) if mapped else None, rows.std)
    trials = _stages(
        shared, lambda integers: candidates(ranges, rows.std, rows.deviation, integers, processes), progress
    )
    best, group, clear = ranked(trials)
    values, model = best.wiring.values, best.wiring.model(blank)
    every = source if mapped and values.range is not None else values(_tensor(source))
    report = check(model, every, cond=cond, seed=seed, dtype=dtype, device=device)
    return Inference(
        model, _line(best.wiring.python, blank), tuple(group), tuple(trials), clear, report,
        shared.calls + report.calls, time.perf_counter() - began,
    )  # fmt: skip


def _line(python: str, blank: ScoreModel) -> str:
    """The line that makes the model, with what it keeps of the one that was given."""
    kept = {name: getattr(blank, name) for name in ("output", "per_sample", "shared")}
    words = [f"{name}={value!r}" for name, value in kept.items() if value not in (None, ())]
    return f"{', '.join([python.removesuffix(')'), *words])})"


def _tensor(source: Any) -> Any:
    """All values as the shared rows have them: a DataSet with a range over [-1, 1]."""
    if not isinstance(source, DataSet):
        return source.double()
    if source.levels is not None:
        return source.dequantised(dtype=torch.float64)
    return source.tensor(dtype=torch.float64)


def _stages(
    shared: SharedRows,
    inputs: Callable[[bool], list[Wiring]],
    progress: bool | None,
) -> list[Trial]:
    """The trials of the last stage, the best first."""
    wirings, reasons = inputs(False), list[Exception]()
    if not any(_try(wiring, shared, 0, reasons) for wiring in wirings[:_PROBED]):
        wirings = inputs(True)
    trials = list[Trial]()
    for stage, (_, _, kept) in enumerate(_STAGES):
        found = [
            trials_of
            for wiring in track(wirings, len(wirings), "inferring", progress)
            if (trials_of := _try(wiring, shared, stage, reasons))
        ]
        if not found:
            raise InputError(f"the network raised with every wiring, at last {_said(reasons)}")
        found.sort(key=lambda trials_of: trials_of[0].score)
        trials = [trial for trials_of in found[:kept] for trial in trials_of]
        wirings = [trials_of[0].wiring for trials_of in found[:kept]]
    return sorted(trials, key=lambda trial: trial.score)


def _try(wiring: Wiring, shared: SharedRows, stage: int, reasons: list[Exception]) -> list[Trial]:
    """The trials of one input, the best first; none where the network raised."""
    levels, n, _ = _STAGES[stage]
    n = min(_STAGES[-1][1], max(n, math.ceil(_NUMBERS / shared.rows.x[0].numel())))
    scales = np.geomspace(0.15, 4.0, levels).tolist()
    try:
        return sorted(attempt(wiring, shared, scales, n, stage), key=lambda trial: trial.score)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reasons.append(error)
        return []


def _said(reasons: list[Exception]) -> str:
    return f"{type(reasons[-1]).__name__}: {reasons[-1]}" if reasons else "none of their levels was reached"
