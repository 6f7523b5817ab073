"""A model bound to the levels of one run: affine pairs and clock readings, a row a level."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.tensors import per_sample
from sdediff.grids.levels import Evaluation, Level, level
from sdediff.model.clock import clock_rows, clock_tensors, finite_reading, no_reading, reading_at
from sdediff.model.data_statistics import Statistics
from sdediff.model.network import Border, wrote
from sdediff.model.outputs import choosing, plain_output, refused_output
from sdediff.model.parametrisations import ALIASES, affine_pair, edm_scale, signed
from sdediff.model.prediction import GeneralPrediction, LinearPrediction, ModelError, Prediction
from sdediff.sde.base import SDE, linear

# How the network is read at one level: the factor of its input (None for 1), its clock (B,), and the pair of
# x0 = a x + b F, None where alpha = 0 and the output does not determine x0.
Row = tuple[Any, Tensor, Any, Any]
Readings = tuple[list[Any], list[Any], list[Any], list[Any]]


class Bindable(Protocol):
    """What is read of a ScoreModel."""

    @property
    def net(self) -> Callable[..., Any]: ...
    @property
    def sde(self) -> SDE: ...
    @property
    def trained(self) -> SDE | None: ...
    @property
    def predicts(self) -> str: ...
    @property
    def time(self) -> Any: ...
    @property
    def sigma_data(self) -> float: ...
    @property
    def offset(self) -> int: ...
    @property
    def output(self) -> str | int | None: ...
    @property
    def cond(self) -> dict[str, Any]: ...
    @property
    def stats(self) -> Statistics | None: ...
    @property
    def changes(self) -> tuple[Callable[[Prediction, Any], Prediction], ...]: ...


class BoundModel:
    """What a solver's step calls: model(x, t) is one network evaluation.

    Rows are ready for the levels of `evaluation` and states like x; other levels, times and batch sizes are served
    too, with a row made for each call. readings: what `read_levels` gave for this model's process. dtypes: of the
    network, None to look for them. changes: by default the model's. first: the first prediction since it was last set
    to None.
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
        changes: tuple[Callable[[Prediction, Any], Prediction], ...] | None = None,
    ) -> None:
        self.model, self.sde, self.stats = model, model.sde, model.stats
        self.cond = model.cond if cond is None else cond
        self.first: Prediction | None = None
        self.dtype, self.device = (torch.float64, torch.device("cpu")) if x is None else (x.dtype, x.device)
        self.shape = torch.Size() if x is None else x.shape[1:]
        self._net, self._linear = choosing(model.net, model.output), model.sde.linear
        self._border, self._plain = Border(), False
        self._border.dtypes = dtypes
        self._evaluation, self._batch = evaluation, -1 if x is None else len(x)
        self._rows: list[Row] = []
        if evaluation is not None and x is not None:
            self.readings = readings or read_levels(model, evaluation)
            scales, clocks, a, b = self.readings
            self._rows = list(zip(scales, clock_tensors(model.time, clocks, x), a, b, strict=True))
        # After rescheduling the output is none of the quantities of the new process, apart from x0 and eps.
        lost = model.trained is not None and signed(model.predicts)[0] not in ("x0", "eps")
        self._output = None if lost else ALIASES.get(model.predicts, model.predicts)
        # Each change is given the model under those before it.
        self._changes: list[tuple[Any, BoundModel]] = []
        for i, change in enumerate(model.changes if changes is None else changes):
            before = BoundModel(model, cond=cond, changes=model.changes[:i])
            before._rows, before._evaluation, before._batch = self._rows, evaluation, self._batch
            self._changes.append((change, before))

    def given(self, **cond: Any) -> BoundModel:
        """The model under more conditions, without rows."""
        changes = tuple(change for change, _ in self._changes)
        return BoundModel(self.model, cond={**self.cond, **cond}, changes=changes)

    def __call__(self, x: Tensor, t: Any) -> Prediction:
        """The prediction at states x (B, ...) and time t: a level, a float or a (B,) tensor of times."""
        shape, extra = x.shape, None
        if type(t) is Level and t.evaluation is self._evaluation and shape[0] == self._batch:
            scale, clock, a, b = self._rows[t.row]
        else:
            t = level(self.sde, t)
            scale, clock, a, b = _row(self.model, t, x)
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
            raw, extra = _checked(raw, x)
        prediction: Prediction
        if self._linear:
            prediction = LinearPrediction(x, raw, t, a, b, self._output, extra)
        else:
            prediction = GeneralPrediction(x, raw, t, self.sde, extra)
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
        readings = clock_rows(model, trained, levels[:n])
    scales = scale.tolist() if isinstance(scale, np.ndarray) else [scale] * n
    rows_a = a.tolist() if isinstance(a, np.ndarray) else [a] * n
    rows_b = b.tolist() if isinstance(b, np.ndarray) else [b] * n
    if not np.isfinite(a).all():
        rows_a = [v if math.isfinite(v) else None for v in rows_a]
    return scales, readings, rows_a, rows_b


def _row(model: Bindable, t: Level, x: Tensor) -> Row:
    trained = t if model.trained is None else level(model.trained, linear(model.trained).t_of_lam(t.lam))
    try:
        scale, a, b = _affine(model, t, trained)
    except ZeroDivisionError:
        scale = a = b = None
    if a is not None and not finite_reading(a):
        a = None
    try:
        reading = reading_at(model, trained, len(x))
    except ZeroDivisionError:
        raise no_reading(model, math.inf, t.time) from None
    return scale, clock_tensors(model.time, [reading], x)[0], a, b


def _affine(model: Bindable, t: Level, trained: Level) -> tuple[Any, Any, Any]:
    """The input's factor and the pair (a, b) at a level of floats, arrays or tensors, on two processes of equal lam."""
    if not model.sde.linear:
        return None, 0.0, 0.0
    a, b = affine_pair(model.predicts, trained, model.sigma_data)
    scale = None
    if signed(model.predicts)[0] == "edm":
        scale = 1 / edm_scale(trained, model.sigma_data)
    if model.trained is None:
        return scale, a, b
    shrink = trained.sigma / t.sigma
    return shrink if scale is None else scale * shrink, a * shrink, b


def _checked(output: Any, x: Tensor) -> tuple[Tensor, Any]:
    """F and what came with it, checked against the state."""
    extra = None
    if not isinstance(output, Tensor):
        output = plain_output(output)
        if isinstance(output, tuple) and output:
            output, extra = output[0], output[1:]
    if not isinstance(output, Tensor):
        raise refused_output(output, x.shape)
    if output.shape != x.shape:
        if output.ndim == x.ndim > 1 and output.shape[1] == 2 * x.shape[1] and output.shape[0] == x.shape[0]:
            output, extra = output.split(x.shape[1], dim=1)
        else:
            raise ModelError(f"the network returned shape {tuple(output.shape)} for states {tuple(x.shape)}")
    if output.dtype != x.dtype:
        if torch.promote_types(output.dtype, x.dtype) != x.dtype:
            raise ModelError(f"the network returned {output.dtype} for {x.dtype} states: cast one of them")
        output = output.to(x.dtype)
    return output, extra
