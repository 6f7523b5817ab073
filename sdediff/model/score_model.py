"""`ScoreModel`: a network with its process, its parametrisation and its clock; and `reschedule`."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Union

from torch import Tensor

from sdediff._utils.suggestions import nearest
from sdediff.grids.levels import Level
from sdediff.model.bound import BoundModel
from sdediff.model.clock import CLOCKS
from sdediff.model.data_card import check_statistics
from sdediff.model.data_statistics import Statistics
from sdediff.model.prediction import PARAMETRISATIONS, ModelError, Prediction
from sdediff.sde.base import SDE

Net = Callable[..., Any]
# What a solver's step calls.
Model = Union["ScoreModel", BoundModel]
Change = Callable[[Prediction, Model], Prediction]


@dataclass(frozen=True, eq=False, repr=False)
class ScoreModel:
    """A network with its process, its parametrisation and its clock: model(x, t) -> Prediction.

    net: any callable (x, clock, **cond) -> F shaped like x. predicts: x0, eps, score, v, edm (input and
    output preconditioned with sigma_data) or velocity. time: what the clock reads: t, index (t - offset:
    DDPM's networks count from 0, the knots from 1), lam, log_snr, sigma (sigma/alpha), c_noise, or a
    function of the level; by default t, for edm c_noise. stats: the data's mean and covariance
    (`statistics`), for solvers that whiten and for likelihoods. trained: the process that the network was
    trained on, where it is used on another (`reschedule`). changes: functions (prediction, model) -> prediction,
    applied in turn (`sdediff.guidance`).
    """

    net: Net
    sde: SDE
    predicts: str = "eps"
    time: str | Callable[[Level], Any] | None = None
    sigma_data: float = 1.0
    offset: int = 1
    cond: dict[str, Any] = field(default_factory=dict)
    trained: SDE | None = None
    stats: Statistics | None = None
    card: dict[str, Any] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()

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
        if self.stats is not None and self.card.get("data"):
            check_statistics(self, self.stats)

    def __call__(self, x: Tensor, t: Any) -> Prediction:
        """The prediction at states x (B, ...) and time t: a level, a float or a (B,) tensor of times."""
        return BoundModel(self)(x, t)

    def __repr__(self) -> str:
        names = ("predicts", "time", "sigma_data", "offset", "trained", "changes")
        shown = [f"{n}={getattr(self, n)!r}" for n in names if getattr(self, n) != _DEFAULTS.get(n)]
        conditions = [f"cond={sorted(self.cond)}"] if self.cond else []
        net = self.net if isinstance(self.net, types.FunctionType) else None
        name = type(self.net).__name__ if net is None else net.__qualname__
        return f"ScoreModel({', '.join([name, repr(self.sde), *shown, *conditions])})"

    def given(self, **cond: Any) -> ScoreModel:
        """The same model under conditions, passed to the network as keyword arguments."""
        return replace(self, cond={**self.cond, **cond})

    def map_net(self, wrap: Callable[[Net], Net]) -> ScoreModel:
        """The same model around wrap(net): counting, compiling."""
        return replace(self, net=wrap(self.net))

    @property
    def at_zero_alpha(self) -> bool:
        """Whether the clock reads, and the output determines x0, where alpha = 0."""
        return self.predicts not in ("eps", "score") and self.time not in ("lam", "log_snr", "sigma", "c_noise")


_DEFAULTS: dict[str, Any] = {"sigma_data": 1.0, "offset": 1, "trained": None, "changes": ()}


def reschedule(model: ScoreModel, sde: SDE) -> ScoreModel:
    """A network trained on one process, used on another: times are matched by lam, states by sigma.

    Beyond the range of lam that the network knows, its nearest end is used.
    """
    source = model.trained or model.sde
    if not (source.linear and sde.linear):
        raise ModelError("reschedule matches the log-SNR of two processes: both need alpha and sigma")
    return replace(model, sde=sde, trained=source)
