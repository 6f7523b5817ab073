"""`ScoreModel`: a network with its process, its parametrisation and its clock; and `reschedule`."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Union

import numpy as np
from torch import Tensor

from sdediff._utils.checks import flag, known, number, shown, whole
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import late, nearest
from sdediff.grids.levels import Level
from sdediff.model.bindable import Binding
from sdediff.model.bound import BoundModel
from sdediff.model.clock import CLOCKS, WITHOUT_END, Clock, base_of, check_clock
from sdediff.model.conditions import as_tensors
from sdediff.model.data_card import DataCard, check_statistics
from sdediff.model.data_statistics import Statistics
from sdediff.model.parts import check_parts
from sdediff.model.prediction import PARAMETRISATIONS, ModelError, Prediction, signed, spellings
from sdediff.sde.base import SDE
from sdediff.sde.checks import check_process

Net = Callable[..., Any]
# What a solver's step calls.
Model = Union["ScoreModel", BoundModel]
Change = Callable[[Prediction, Model], Prediction] | Binding


@dataclass(frozen=True, eq=False, repr=False)
class ScoreModel:
    """A network with its process, its parametrisation and its clock: model(x, t) -> Prediction.

    net: any callable (x, clock, **cond) -> F shaped like x. predicts: x0, eps, score, v, edm (input and
    output preconditioned with sigma_data) or velocity, "-eps" and so on for the reversed sign, or "sigma*score".
    time: what the clock reads: t, index (t - offset: DDPM's networks count from 0, the knots from 1), lam,
    log_snr, sigma (sigma/alpha), c_noise, a `Clock` or a function of the level; by default t, for edm c_noise.
    output: the key, attribute or index of F where the network returns several things. stats: the data's mean and
    covariance (`statistics`), for solvers that whiten and for likelihoods. trained: the process that the network was
    trained on, where it is used on another (`reschedule`). changes: functions (prediction, model) -> prediction, or
    objects that bind to a run, in turn (`sdediff.guidance`). per_sample, shared: names of conditions that have a row a
    sample, or are the same for all, where their shape leaves both open. velocity_only: True where training paired noise
    with data, so that what needs a score is refused. origin: where `sdediff.load` took the model from. autoencoder: of
    a model of latents, encode(images) and decode(latents); text_encoder: texts -> conditions
    (`sdediff.model.Autoencoder`, `TextEncoder`).
    """

    net: Net
    sde: SDE
    predicts: str = "eps"
    time: str | Clock | Callable[[Level], Any] | None = None
    sigma_data: float = 1.0
    offset: int = 1
    cond: dict[str, Any] = field(default_factory=dict)
    trained: SDE | None = None
    stats: Statistics | None = None
    card: dict[str, Any] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    per_sample: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    output: str | int | None = None
    velocity_only: bool = False
    origin: Any = field(default=None, repr=False)
    autoencoder: Any = None
    text_encoder: Any = None

    def __post_init__(self) -> None:
        _check_kinds(self)
        if not known(self.predicts, spellings()):
            raise ModelError(nearest(self.predicts, PARAMETRISATIONS, "parametrisation"))
        quantity = signed(self.predicts)[0]
        if self.time is None:
            object.__setattr__(self, "time", "c_noise" if quantity == "edm" else "t")
        if isinstance(self.time, str) and self.time not in CLOCKS:
            raise ModelError(nearest(self.time, CLOCKS, "clock"))
        source = self.trained or self.sde
        if base_of(self.time) == "index" and not hasattr(source, "n"):
            raise ModelError(f'time="index" needs a Table, given {type(source).__name__}: use time="t"')
        if not source.linear and (self.predicts != "score" or self.trained or self.time != "t"):
            raise ModelError('a process without alpha and sigma takes predicts="score" and time="t" alone')
        if self.sigma_data != 1 and quantity in ("x0", "eps", "score", "v", "velocity"):
            raise ModelError(
                f'sigma_data={self.sigma_data} has no effect with predicts={self.predicts!r}: it is for "edm"'
            )
        if self.offset != 1 and self.time != "index":
            own = ", write the clock's own offset" if isinstance(self.time, Clock) else ""
            raise ModelError(f'offset={self.offset} has no effect with time={self.time!r}: it is for time="index"{own}')
        flag("velocity_only", self.velocity_only)
        if self.velocity_only and quantity != "velocity":
            raise ModelError(f'velocity_only=True with predicts={self.predicts!r}: it is for "velocity"')
        check_parts(self.autoencoder, self.text_encoder)
        if callable(self.time):
            check_clock(self.time, source)
        object.__setattr__(self, "cond", as_tensors(self.cond))
        if self.stats is not None and self.card.get("data"):
            check_statistics(self.card, self.stats)

    def __call__(self, x: Tensor, t: Any) -> Prediction:
        """The prediction at states x (B, ...) and time t: a level, a float or a (B,) tensor of times."""
        if not isinstance(x, Tensor) or not x.is_floating_point() or not x.ndim or x.is_meta:
            raise InputTypeError(f"x={shown(x)}: give floating-point states (B, ...)")
        if isinstance(t, Tensor | np.ndarray | list | tuple) and np.shape(t) not in ((), (len(x),)):
            raise InputError(
                f"t has the shape {tuple(np.shape(t))} for {len(x)} states: give one time, or one a sample"
            )
        check_card(self, x.shape)
        return BoundModel(self)(x, t)

    def __repr__(self) -> str:
        names = ("predicts", "time", "sigma_data", "offset", "trained", "changes", "output", "velocity_only")
        shown = [f"{n}={getattr(self, n)!r}" for n in names if getattr(self, n) != _DEFAULTS.get(n)]
        conditions = [f"cond={sorted(self.cond)}"] if self.cond else []
        for part in ("autoencoder", "text_encoder"):
            if getattr(self, part) is not None:
                conditions.append(f"{part}={type(getattr(self, part)).__name__}")
        net = self.net if isinstance(self.net, types.FunctionType) else None
        name = type(self.net).__name__ if net is None else net.__qualname__
        return f"ScoreModel({', '.join([name, repr(self.sde), *shown, *conditions])})"

    def given(self, **cond: Any) -> ScoreModel:
        """The same model under conditions, passed to the network as keyword arguments."""
        return self._with(cond={**self.cond, **as_tensors(cond)})

    def _under(self, cond: Any) -> ScoreModel:
        """The model under the conditions of an argument `cond`; itself for None."""
        return self if cond is None else self._with(cond={**self.cond, **as_tensors(cond)})

    def map_net(self, wrap: Callable[[Net], Net]) -> ScoreModel:
        """The same model around wrap(net): counting; a network that a change evaluates beside it is wrapped as well."""
        changes = tuple(change.map_net(wrap) if hasattr(change, "map_net") else change for change in self.changes)
        return self._with(net=wrap(self.net), changes=changes)

    def _with(self, **fields: Any) -> ScoreModel:
        """`dataclasses.replace` without looking at the process again."""
        twin = copy.copy(self)
        for name, value in fields.items():
            object.__setattr__(twin, name, value)
        return twin

    @property
    def at_zero_alpha(self) -> bool:
        """Whether the clock reads, and the output determines x0, where alpha = 0."""
        clock = getattr(self.time, "base", self.time)
        if not all(getattr(change, "at_zero_alpha", True) for change in self.changes):
            return False
        return self.predicts.lstrip("-") not in ("eps", "score", "sigma*score") and clock not in WITHOUT_END


_DEFAULTS: dict[str, Any] = {
    "sigma_data": 1.0,
    "offset": 1,
    "trained": None,
    "changes": (),
    "velocity_only": False,
    "output": None,
}


def _check_kinds(model: ScoreModel) -> None:
    """Refuse fields of a kind that they cannot have, and processes that cannot be right."""
    if type(model.net).__name__ == "ExportedProgram":
        raise InputTypeError("net is an ExportedProgram, which is not called itself: give program.module()")
    if not callable(model.net):
        raise InputTypeError(f"net={shown(model.net)} is no network: give a callable (x, t, **cond) -> tensor like x")
    if isinstance(model.net, ScoreModel | type):
        raise InputTypeError(f"net={shown(model.net)}: give the network itself, a callable (x, t) -> tensor like x")
    check_process(model.sde)
    if model.trained is not None:
        check_process(model.trained, "trained")
    if not isinstance(model.predicts, str):
        raise InputTypeError(f"predicts={shown(model.predicts)}: write one of {', '.join(PARAMETRISATIONS)}")
    if not (model.time is None or isinstance(model.time, str | Clock) or callable(model.time)):
        raise InputTypeError(
            f"time={shown(model.time)}: write one of {', '.join(CLOCKS)}, an sd.Clock, or a function of the level"
        )
    if isinstance(model.output, bool) or not isinstance(model.output, str | int | None):
        raise InputTypeError(f"output={shown(model.output)}: give the name or the index of the network's output")
    if number("sigma_data", model.sigma_data) <= 0:
        raise ModelError(f"sigma_data={model.sigma_data}: it is a standard deviation, give a positive one")
    whole("offset", model.offset)
    for name in ("cond", "card"):
        if not isinstance(getattr(model, name), dict):
            raise InputTypeError(f"{name}={shown(getattr(model, name))}: give a dictionary of names and values")
    if not (model.stats is None or isinstance(model.stats, Statistics)):
        raise InputTypeError(f"stats={shown(model.stats)}: give sd.statistics(data)")
    for name in ("changes", "per_sample", "shared"):
        if not isinstance(getattr(model, name), tuple):
            raise InputTypeError(f"{name}={shown(getattr(model, name))}: give a tuple")


def check_model(model: Any) -> ScoreModel:
    """The model, loaded where a name is given (`sdediff.load`), refused where it is none."""
    if isinstance(model, str):
        return late("sdediff.hub:load")(model)
    if not isinstance(model, ScoreModel):
        hint = "sd.ScoreModel(net, sd.VP(), ...)" if callable(model) else 'sd.ScoreModel(...) or sd.load("digits-vp")'
        raise InputTypeError(f"{shown(model)} is a {type(model).__name__}, needed is a ScoreModel: write {hint}")
    return model


def check_card(model: ScoreModel, shape: Any) -> None:
    """Refuse states (B, ...) of another shape than the model's card says."""
    declared = DataCard.of(model.card).shape if model.card else None
    if declared is not None and declared != tuple(shape[1:]):
        if model.autoencoder is not None:
            raise InputError(
                f"given are samples of shape {tuple(shape[1:])}, the model takes latents of shape {declared}: write "
                "model.autoencoder.encode(images), and sd.likelihood.encoder_decoder_bound for a bound on images"
            )
        lacks = "x[:, None], or " if (1, *shape[1:]) == declared else ""
        raise InputError(
            f"given are samples of shape {tuple(shape[1:])}, by its card the model takes {declared}: "
            f"write {lacks}shape={(shape[0], *declared)}"
        )


def reschedule(model: ScoreModel, sde: SDE) -> ScoreModel:
    """A network trained on one process, used on another: times are matched by lam, states by sigma.

    Beyond the range of lam that the network knows, its nearest end is used.
    """
    model = check_model(model)
    check_process(sde)
    source = model.trained or model.sde
    if not (source.linear and sde.linear):
        raise ModelError("reschedule matches the log-SNR of two processes: both need alpha and sigma")
    return replace(model, sde=sde, trained=source)
