"""diffusers' schedulers as contenders: by name on a table between the model's ends, or a scheduler object as it is."""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError, MissingPackageError
from sdediff._utils.suggestions import nearest
from sdediff.benchmark.contenders.diffusers_families import families
from sdediff.benchmark.contenders.diffusers_tables import Visits, bars
from sdediff.benchmark.contenders.frame import Frame, too_few, untimed
from sdediff.benchmark.contenders.protocol import Contender, Finish
from sdediff.grids.levels import level
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear

INSTALL = "pip install 'sdediff[bridges]'"
_TRAILING = {"clip_sample": False, "timestep_spacing": "trailing"}
# States are not images, and the first level is the table's last.
_OPTIONS: dict[str, dict[str, Any]] = {
    "DDIM": _TRAILING, "DDPM": _TRAILING, "PNDM": {"skip_prk_steps": True, "timestep_spacing": "trailing"},
}  # fmt: skip
# Two evaluations a step; the last, to data, is one.
_TWO = ("HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete")
# A named one with fewer steps has no step of its own.
_LEAST = {"PNDM": 4}
_STOCHASTIC = ("DDPM", "EulerAncestralDiscrete", "KDPM2AncestralDiscrete", "DPMSolverSDE")
_REFUSED = ("LCM", "TCD", "CMStochasticIterative", "SCM", "RePaint", "ConsistencyDecoder", "KarrasVe", "IPNDM")
SPACINGS = {
    "karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas",
    "lu_lambdas": "use_lu_lambdas",
}  # fmt: skip
DEFAULT = (
    "DDIM", "EulerDiscrete", "HeunDiscrete", "DPMSolverMultistep", "DPMSolverMultistep:karras", "UniPCMultistep",
    "DEISMultistep", "DDPM", "EulerAncestralDiscrete",
)  # fmt: skip


def library() -> Any:
    """The package; MissingPackageError with the line that installs it."""
    try:
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise MissingPackageError(f"diffusers cannot be imported ({error}): {INSTALL}") from error


def is_scheduler(thing: Any) -> bool:
    """Whether an object is a scheduler of diffusers, by what it can do."""
    return all(hasattr(thing, name) for name in ("set_timesteps", "step", "config"))


@dataclass(frozen=True)
class Diffusers(Contender):
    """A scheduler of diffusers from its first level to data.

    kind: its class without "Scheduler", made on a table of 1000 knots between the process's own ends, or on the model's
    table; options are its own or those of its step, such as eta. There a denoising evaluation takes the place of the
    last step to data, or follows it where that ends above. scheduler: an object instead, taken as it is with its table
    and its own last step. The network is evaluated at the exact level of each step, not at a rounded index.
    """

    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    scheduler: Any = field(default=None, repr=False, compare=False)
    title: str = ""
    library = "diffusers"

    def __post_init__(self) -> None:
        if self.scheduler is None and self.kind in _REFUSED:
            raise InputError(f"diffusers:{self.kind} brings a schedule of its own or a distilled network: leave it out")

    @property
    def name(self) -> str:
        return self.title or ":".join([self.kind, *(f"{k}={v}" for k, v in self.options.items())])

    @property
    def stochastic(self) -> bool:
        config = self.options if self.scheduler is None else self.scheduler.config
        drawing = "sde-" in str(config.get("algorithm_type", "")) or bool(config.get("eta") or config.get("s_churn"))
        return drawing or self.kind in _STOCHASTIC or (self.kind == "SASolver" and "tau_func" not in config)

    def start(self, model: ScoreModel, calls: int) -> float:
        visits, _ = self._prepared(model, calls)
        sde = linear(model.sde)
        low, high = _ends(model)
        kappa = visits.kappa(0, visits.scheduler.timesteps[0])
        if kappa > high * (1 - 1e-3):
            return sde.t_max
        return float(sde.t_of_lam(-math.log(max(kappa, low))))

    def run(self, model: ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        with untimed(model):
            visits, own_end = self._prepared(model, calls)
            frame = Frame(model, x_T, self.start(model, calls))
        with _quiet():
            return self._moved(visits, frame, own_end, seed)

    def _moved(self, visits: Visits, frame: Frame, own_end: bool, seed: int) -> Finish:
        scheduler, dtype, device = visits.scheduler, frame.y.dtype, frame.y.device
        accepted = inspect.signature(scheduler.step).parameters
        more: dict[str, Any] = {name: value for name, value in self.options.items() if name in accepted}
        if "generator" in accepted:
            more["generator"] = torch.Generator(device.type).manual_seed(seed)
        timesteps, scale = scheduler.timesteps, getattr(scheduler, "scale_model_input", lambda x, _: x)
        x = frame.y
        for i, timestep in enumerate(timesteps):
            kappa = min(visits.kappa(i, timestep), frame.high)
            if i == 0:
                x = (x * visits.of_y(kappa)).to(dtype)
            # It counts its steps there; the network's input is made by the model.
            scale(x, timestep)
            y = x / visits.of_y(kappa)
            x0 = frame.denoise(y, kappa)
            if i == len(timesteps) - 1 and not own_end:
                return Finish(x0, calls=len(timesteps))
            x = scheduler.step(visits.output(y, x0, kappa), timestep, x, **more).prev_sample.to(dtype)
        if self.scheduler is None:
            return Finish(frame.denoise(x / visits.of_y(frame.low), frame.low), calls=len(timesteps) + 1)
        last = visits.last_kappa()
        if not last:
            return Finish(x, calls=len(timesteps))
        at = level(frame.sde, frame.sde.t_of_lam(-math.log(last)).item())
        return Finish(x * (at.alpha / visits.of_y(last)), float(at.time), len(timesteps))

    def _prepared(self, model: ScoreModel, calls: int) -> tuple[Visits, bool]:
        """A fresh scheduler with its timesteps set, and whether it makes its last step."""
        own, steps = self.scheduler is not None, (calls + 1) // 2 if self.kind in _TWO else calls
        while steps >= 1:
            visits = self._set(model, steps)
            follows = not own and visits.last_kappa() > 0 and not visits.stays()
            if len(visits.scheduler.timesteps) + follows <= calls and (own or steps >= _LEAST.get(self.kind, 2)):
                return visits, own or follows
            steps -= 1
        raise too_few(self.label, calls, _LEAST.get(self.kind, 2))

    def _set(self, model: ScoreModel, steps: int) -> Visits:
        with _quiet():
            made = copy.deepcopy(self.scheduler) if self.scheduler is not None else self._made(model)
            try:
                made.set_timesteps(steps)
            except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
                raise InputError(f"{self.label} refuses {steps} steps: {error}") from error
        return Visits(made)

    def _made(self, model: ScoreModel) -> Any:
        """The scheduler on the model's table, or on one of DDPM's shape between the process's ends."""
        kind = getattr(library(), f"{self.kind}Scheduler", None)
        if kind is None:
            names = [name.removesuffix("Scheduler") for name in dir(library()) if name.endswith("Scheduler")]
            raise InputError(nearest(self.kind, names, "scheduler of diffusers"))
        low, high = _ends(model)
        options = _OPTIONS.get(self.kind, {}) | self.options
        accepted = inspect.signature(kind.__init__).parameters
        stepped = inspect.signature(kind.step).parameters
        for name in set(options) - {*accepted, *stepped}:
            raise InputError(nearest(name, accepted, f"option of diffusers:{self.kind}"))
        options = {name: value for name, value in options.items() if name in accepted}
        if "trained_betas" not in accepted:
            ends = {"sigma_min": low, "sigma_max": high} if "sigma_min" in accepted else {}
            return kind(**ends | options)
        table = bars(low, high)
        if hasattr(model.sde, "n"):
            table = linear(model.sde).alpha(torch.arange(1, model.sde.n + 1, dtype=torch.float64)) ** 2
        betas = 1 - table / torch.cat([torch.ones(1, dtype=table.dtype), table[:-1]])
        made = kind(trained_betas=betas.tolist(), **options)
        # A cumulative product of 1 - beta loses digits of 1 - alpha_bar where that is small.
        made.alphas_cumprod = table
        return made


def _ends(model: ScoreModel) -> tuple[float, float]:
    """kappa at t_min and at the last start."""
    sde = linear(model.sde)
    return float(level(sde, float(sde.t_min)).kappa), float(level(sde, float(sde.t_max)).kappa)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's warnings of deprecated use of NumPy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def of_scheduler(scheduler: Any) -> Contender:
    """A scheduler object as a contender, as it is."""
    kind = type(scheduler).__name__.removesuffix("Scheduler")
    return Diffusers(kind, {}, scheduler, f"{kind}({_differences(scheduler)})")


def _differences(scheduler: Any) -> str:
    """What a scheduler's configuration has beside its class's defaults."""
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(type(scheduler).__init__).parameters.items()
    }
    own = {name: value for name, value in scheduler.config.items() if name in defaults and value != defaults[name]}
    return ", ".join(f"{name}={value!r:.30}" for name, value in own.items() if name != "trained_betas")


def named(name: str, grid: str | None = None, **options: Any) -> Contender:
    """A scheduler by its class: diffusers:DDIM, diffusers:DPMSolverMultistep:karras:solver_order=3."""
    name = name.removesuffix("Scheduler")
    if grid is not None and grid not in SPACINGS:
        raise InputError(nearest(grid, SPACINGS, "grid of diffusers"))
    library()
    chosen = {SPACINGS[grid]: True} if grid else {}
    plain = {k: v for k, v in options.items() if isinstance(v, int | float | str | bool)}
    title = ":".join([name, *([grid] if grid else []), *(f"{k}={v}" for k, v in plain.items())])
    return Diffusers(name, {**chosen, **options}, title=title)


def everything() -> Iterator[Contender]:
    """Every scheduler at its default spacing and on its others, with its orders and variants."""
    for kind, options, grids in families():
        for grid in (None, *grids):
            yield named(kind, grid, **options)
