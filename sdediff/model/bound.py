"""A model bound to the levels of one run: affine pairs and clock readings, a row a level."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.tensors import per_sample, times64
from sdediff.grids.levels import Evaluation, Level, level
from sdediff.model.bindable import Bindable, Change, Readings, Row, Table
from sdediff.model.clock import CLOCKS, Clock, read_clock
from sdediff.model.general_prediction import GeneralPrediction
from sdediff.model.network import Border, wrote
from sdediff.model.outputs import checked_output, choosing
from sdediff.model.prediction import (
    ALIASES,
    PARAMETRISATIONS,
    LinearPrediction,
    ModelError,
    Prediction,
    edm_scale,
    signed,
)
from sdediff.model.velocity_only import VelocityOnly
from sdediff.sde.base import linear


class BoundModel:
    """What a solver's step calls: model(x, t) is one network evaluation.

    Rows are ready for the levels of `evaluation` and states like x; other levels, times and batch sizes are served
    too, with a row made for each call. readings: what `read_levels` gave for this model's process. dtypes: of the
    network, None to look for them. changes: by default the model's. table: of another bound model of the same run, in
    place of evaluation and x. first: the first prediction since it was last set to None.
    """

    def __init__(
        self,
        model: Bindable,
        evaluation: Evaluation | None = None,
        x: Tensor | None = None,
        readings: Readings | None = None,
        dtypes: tuple[torch.dtype, ...] | None = None,
        *,
        cond: dict[str, Any] | None = None,
        changes: tuple[Change, ...] | None = None,
        table: Table | None = None,
    ) -> None:
        self.model, self.sde, self.stats = model, model.sde, model.stats
        self.cond = model.cond if cond is None else cond
        self.changes = model.changes if changes is None else changes
        self.first: Prediction | None = None
        self._net, self._linear = model.net, model.sde.linear
        if model.output is not None:
            self._net = choosing(model.net, model.output)
        self._border, self._plain, self._velocity_only = Border(), False, model.velocity_only
        self._border.dtypes = dtypes
        rows: list[Row] = []
        if evaluation is not None and x is not None:
            self.readings = readings or read_levels(model, evaluation)
            scales, clocks, a, b = self.readings
            rows = list(zip(scales, clocks_of(model.time, clocks, x), a, b, strict=True))
        if table is None:
            kind = None if x is None else (x.dtype, x.device, x.shape[1:])
            table = Table(evaluation, -1 if x is None else x.shape[0], rows, kind)
        self.table = table
        self._evaluation, self._batch, self._rows, kind = table
        self.dtype, self.device, self.shape = kind or (torch.float64, torch.device("cpu"), torch.Size())
        # After rescheduling the output is none of the quantities of the new process, apart from x0 and eps.
        lost = model.trained is not None and signed(model.predicts)[0] not in ("x0", "eps")
        self._output = None if lost else ALIASES.get(model.predicts, model.predicts)
        self._through: Callable[[Tensor, Any], Prediction] | None = None
        self._changes: list[tuple[Any, BoundModel]] = []
        if self.changes:
            self._bind(dtypes)

    def _bind(self, dtypes: tuple[torch.dtype, ...] | None) -> None:
        """Give each change the model under those before it; one with `bind` makes the evaluations from there on."""
        for i, change in enumerate(self.changes):
            before = BoundModel(self.model, dtypes=dtypes, cond=self.cond, changes=self.changes[:i], table=self.table)
            bind = getattr(change, "bind", None)
            if bind is None:
                self._changes.append((change, before))
            else:
                self._through, self._changes = bind(before), []

    def given(self, **cond: Any) -> BoundModel:
        """The same model of the same run under more conditions."""
        return BoundModel(self.model, cond={**self.cond, **cond}, changes=self.changes, table=self.table)

    def repeated(self, times: int, cond: dict[str, Any]) -> BoundModel:
        """This model without its changes under conditions of `times` batches side by side, states (times B, ...)."""
        evaluation, batch, rows, kind = self.table
        wide = [(scale, clock.repeat(times), a, b) for scale, clock, a, b in rows]
        table = Table(evaluation, times * batch, wide, kind)
        return BoundModel(self.model, cond=cond, changes=(), table=table)

    def beside(self, other: Bindable) -> BoundModel:
        """Another model of the same process, bound to the same levels and states."""
        return BoundModel(other, self._evaluation, self.table.like)

    def in_run(self, x: Tensor, t: Any) -> bool:
        """Whether t is one of the run's levels, and x has the run's batch size."""
        return type(t) is Level and t.evaluation is self._evaluation and len(x) == self._batch

    def __call__(self, x: Tensor, t: Any) -> Prediction:
        """The prediction at states x (B, ...) and time t: a level, a float or a (B,) tensor of times."""
        prediction: Prediction
        if self._through is not None:
            prediction = self._through(x, t)
        else:
            shape, extra = x.shape, None
            if type(t) is Level and t.evaluation is self._evaluation and shape[0] == self._batch:
                scale, clock, a, b = self._rows[t.row]
            else:
                t = level(self.sde, t)
                scale, clock, a, b = read_level(self.model, t, x)
            given = x if scale is None else x * per_sample(scale, x)
            if self._plain:
                # A tensor of inference mode has no version.
                version = None if given.is_inference() else given._version
                raw = self._net(given, clock, **self.cond)
                if version is not None and given._version != version:
                    raise wrote()
            else:
                border = self._border
                raw = (border.later if border.tried else border.first)(self._net, given, clock, self.cond)
                self._plain = border.plain
            if type(raw) is not Tensor or raw.shape != shape or raw.dtype is not x.dtype:
                raw, extra = checked_output(raw, x)
            if self._linear:
                prediction = LinearPrediction(x, raw, t, a, b, self._output, extra)
            else:
                prediction = GeneralPrediction(x, raw, t, self.sde, extra)
            if self._velocity_only:
                prediction = VelocityOnly(prediction)
        for change, plain in self._changes:
            prediction = change(prediction, plain)
            if not isinstance(prediction, Prediction):
                raise ModelError(f"{change!r} gave {type(prediction).__name__}, needed: a Prediction")
        if self.first is None:
            self.first = prediction
        return prediction


def read_levels(model: Bindable, evaluation: Evaluation) -> Readings:
    """How the network is read at every level of an evaluation: factors of its input, clock readings, a and b."""
    columns = evaluation.columns()
    n = len(columns.time)
    trained, levels = columns, evaluation.levels
    if model.trained is not None:
        source = Evaluation(model.trained)
        source.at_lam(columns.lam)
        trained, levels = source.columns(), source.levels
    with np.errstate(all="ignore"):
        scale, a, b = _affine(model, columns, trained)
        clock = model.time
        readings = [clock(v) for v in levels[:n]] if callable(clock) else _reading(model, trained).tolist()
    scales = scale.tolist() if isinstance(scale, np.ndarray) else [scale] * n
    rows_a = a.tolist() if isinstance(a, np.ndarray) else [a] * n
    rows_b = b.tolist() if isinstance(b, np.ndarray) else [b] * n
    if not all(map(math.isfinite, rows_a)):
        rows_a = [v if math.isfinite(v) else None for v in rows_a]
    return scales, readings, rows_a, rows_b


def read_level(model: Bindable, t: Level, x: Tensor) -> Row:
    """How the network is read at one level, for states like x."""
    trained = t if model.trained is None else level(model.trained, linear(model.trained).t_of_lam(t.lam))
    try:
        scale, a, b = _affine(model, t, trained)
    except ZeroDivisionError:
        scale = a = b = None
    if a is not None and not _finite(a):
        a = None
    try:
        reading = read_clock(model.time, trained, len(x)) if callable(model.time) else _reading(model, trained)
    except ZeroDivisionError:
        raise _no_reading(model, math.inf, t.time) from None
    return scale, clocks_of(model.time, [reading], x)[0], a, b


def _affine(model: Bindable, t: Level, trained: Level) -> tuple[Any, Any, Any]:
    """The input's factor and the pair (a, b) at a level of floats, arrays or tensors, on two processes of equal lam."""
    if not model.sde.linear:
        return None, 0.0, 0.0
    quantity, sign = signed(model.predicts)
    a, b = PARAMETRISATIONS[quantity](trained, model.sigma_data)
    if sign < 0:
        b = -b
    scale = None
    if quantity == "edm":
        scale = 1 / edm_scale(trained, model.sigma_data)
    if model.trained is None:
        return scale, a, b
    shrink = trained.sigma / t.sigma
    return shrink if scale is None else scale * shrink, a * shrink, b


def _reading(model: Bindable, trained: Level) -> Any:
    """What a named clock reads at a level of the process that the network was trained on."""
    clock: Any = model.time
    base = clock.base if type(clock) is Clock else clock
    reading = CLOCKS[base](trained)
    if not _finite(reading):
        readings, times = (times64(v).detach().cpu().reshape(-1) for v in (reading, trained.time))
        first = torch.isfinite(readings).int().argmin()
        raise _no_reading(model, readings[first].item(), times[first].item())
    if base == "index":
        source: Any = model.trained or model.sde
        reading = (source.n + 1 - reading if getattr(source, "descending", False) else reading) - model.offset
    return clock.scale * reading + clock.offset if type(clock) is Clock else reading


def _no_reading(model: Bindable, reading: float, time: Any) -> ModelError:
    hint = "start below it (start=sde.t_max)" if time > model.sde.T / 2 else "end above it, at t_min"
    return ModelError(f"the clock {model.time!r} reads {reading} at t={time}: {hint}")


def _finite(value: Any) -> bool:
    """Whether a number, an array or a tensor is finite; inside of vmap, where numbers have no truth, it is."""
    if isinstance(value, Tensor):
        return torch._C._functorch.is_functorch_wrapped_tensor(value) or bool(torch.isfinite(value).all())
    return all(map(math.isfinite, value.tolist())) if isinstance(value, np.ndarray) else math.isfinite(value)


def clocks_of(clock: Any, readings: list[Any], x: Tensor) -> list[Tensor]:
    """What the network reads at every level, each (B,), on the states' device; floats travel together.

    Every run has its own, since a network may write into them. Those of a whole clock are int64.
    """
    whole, batch = type(clock) is Clock and clock.whole, x.shape[0]
    if Tensor in set(map(type, readings)):
        kind = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
        rows = [times64(r).to(x.device).expand(batch) for r in readings]
        return [r.round().to(torch.int64) if whole else r.to(kind) for r in rows]
    if whole:
        numbers = np.rint(np.array(readings, dtype=np.float64)).astype(np.int64)
    else:
        numbers = np.array(readings, dtype=np.float64 if x.dtype is torch.float64 else np.float32)
    return list(torch.from_numpy(numbers.repeat(batch).reshape(-1, batch)).to(x.device).unbind())
