"""`ScoreModel`: a network with its process, its parametrisation and its clock; and `reschedule`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import per_sample
from sdediff.grids.levels import Level, level
from sdediff.model.clock import CLOCKS, Ready, Terms
from sdediff.model.data_statistics import Statistics
from sdediff.model.prediction import PARAMETRISATIONS, GeneralPrediction, ModelError, Prediction
from sdediff.sde.base import SDE

Net = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """A network with its process, its parametrisation and its clock: model(x, t) -> Prediction.

    net: any callable (x, clock, **cond) -> F shaped like x. predicts: x0, eps, score, v, edm (input and
    output preconditioned with sigma_data) or velocity. time: what the clock reads: t, index (t - offset:
    DDPM's networks count from 0, the knots from 1), lam, log_snr, sigma (sigma/alpha), c_noise, or a
    function of the level; by default t, for edm c_noise. stats: the data's mean and covariance
    (`statistics`), for solvers that whiten and for likelihoods. trained: the process that the network was
    trained on, where it moves on another (`reschedule`).
    """

    net: Net
    sde: SDE
    predicts: str = "eps"
    time: str | Callable[[Level], Any] | None = None
    sigma_data: float = 1.0
    offset: int = 1
    cond: dict[str, Any] = field(default_factory=dict)
    trained: SDE | None = None
    stats: Statistics | None = field(default=None, repr=False)
    card: dict[str, Any] = field(default_factory=dict, repr=False)
    _ready: Ready | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.predicts not in PARAMETRISATIONS:
            raise ModelError(nearest(self.predicts, PARAMETRISATIONS, "parametrisation"))
        if self.time is None:
            object.__setattr__(self, "time", "c_noise" if self.predicts == "edm" else "t")
        if isinstance(self.time, str) and self.time not in CLOCKS:
            raise ModelError(nearest(self.time, CLOCKS, "clock"))
        source = self.trained or self.sde
        if self.time == "index" and not hasattr(source, "n"):
            raise ModelError(f'time="index" needs a Table, given {type(source).__name__}: use time="t"')
        if not source.linear and (self.predicts != "score" or self.trained or self.time != "t"):
            raise ModelError('a process without alpha and sigma takes predicts="score" and time="t" alone')

    def __call__(self, x: Tensor, t: Any) -> Prediction:
        """The prediction at states x (B, ...) and time t: a level, a float or a (B,) tensor of times."""
        here = t if isinstance(t, Level) else level(self.sde, t)
        shape, ready = x.shape, self._ready
        found = ready.at.get(here.time) if ready is not None and ready.size == shape[0] else None
        (says, scale, a, b), clock = found or self._terms.at(here, x)
        scaled = x if isinstance(scale, float) and scale == 1.0 else x * per_sample(scale, x)
        raw, extra = self.net(scaled, clock, **self.cond), None
        if type(raw) is not Tensor or raw.shape != shape or raw.dtype is not x.dtype:
            raw, extra = _raw(raw, x)
        if not says:
            return GeneralPrediction(x, raw, here, self.sde, extra)
        return Prediction(x, raw, here, a, b, says, extra)

    def given(self, **cond: Any) -> ScoreModel:
        """The same model under conditions, passed to the network as keyword arguments."""
        return replace(self, cond={**self.cond, **cond})

    def map_net(self, wrap: Callable[[Net], Net]) -> ScoreModel:
        """The same model around wrap(net): counting, compiling."""
        return replace(self, net=wrap(self.net))

    def on(self, row: tuple[Level, ...], x: Tensor) -> ScoreModel:
        """The same model with its coefficients and clocks ready for every level of a grid and states like x."""
        return replace(self, _ready=self._terms.on(row, x))

    @functools.cached_property
    def _terms(self) -> Terms:
        time = "t" if self.time is None else self.time
        return Terms(self.sde, self.predicts, time, self.sigma_data, self.offset, self.trained)

    @property
    def at_zero_alpha(self) -> bool:
        """Whether the clock reads, and the output determines x0, where alpha = 0."""
        return self.predicts not in ("eps", "score") and self.time not in ("lam", "log_snr", "sigma", "c_noise")


def _raw(output: Any, x: Tensor) -> tuple[Tensor, Any]:
    """F and what came with it, checked against the state."""
    extra = None
    if not isinstance(output, Tensor):
        output = getattr(output, "sample", output)
        if isinstance(output, tuple):
            output, extra = output[0], output[1:]
    if not isinstance(output, Tensor):
        raise ModelError(f"the network returned {type(output).__name__}, needed: a tensor of shape {tuple(x.shape)}")
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


def reschedule(model: ScoreModel, sde: SDE) -> ScoreModel:
    """A network trained on one process, moving on another: times are matched by lam, states by sigma.

    Beyond the range of lam that the network knows, its nearest end is used.
    """
    source = model.trained or model.sde
    if not (source.linear and sde.linear):
        raise ModelError("reschedule matches the log-SNR of two processes: both need alpha and sigma")
    return replace(model, sde=sde, trained=source, _ready=None)
