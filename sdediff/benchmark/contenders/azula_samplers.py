"""azula's samplers as contenders."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError, MissingPackageError
from sdediff._utils.suggestions import nearest
from sdediff.benchmark.contenders.frame import Frame, too_few
from sdediff.benchmark.contenders.protocol import Contender, Finish
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear

INSTALL = "pip install azula"
GRIDS = ("exponential", "karras")
# Network evaluations a step, and whether it draws noise at its defaults.
_SAMPLERS = {
    "Euler": (1, False), "Heun": (2, False), "DDIM": (1, False), "DDPM": (1, True), "zAB": (1, False),
    "vAB": (1, False), "zEAB": (1, False), "xEAB": (1, False), "REAB": (1, False),
}  # fmt: skip
DEFAULT = ("Euler", "Heun", "DDPM", "zAB", "xEAB", "REAB")


def _parts() -> tuple[Any, Any, Any]:
    try:
        denoise, noise, sample = (importlib.import_module(f"azula.{part}") for part in ("denoise", "noise", "sample"))
    except ImportError as error:
        raise MissingPackageError(f"azula cannot be imported ({error}): {INSTALL}") from error
    return denoise, noise, sample


def _classes() -> tuple[Any, Any]:
    """A schedule of levels even in kappa^(1/7), and a frame as one of its denoisers."""
    denoise, noise, _ = _parts()

    class Rho(noise.Schedule):  # type: ignore[name-defined]
        """alpha = 1 and sigma^(1/7) linear in t, from `low` at 0 to `high` at 1. Karras et al. 2022, equation 5."""

        def __init__(self, low: float, high: float) -> None:
            self.ends = low ** (1 / 7), high ** (1 / 7)

        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            low, high = self.ends
            return torch.ones_like(t), (low + t * (high - low)) ** 7

    class OfFrame(denoise.Denoiser):  # type: ignore[name-defined]
        """The network behind a frame as azula's denoiser: y is x/alpha, its level sigma/alpha."""

        def __init__(self, frame: Frame, schedule: Any) -> None:
            super().__init__()
            self.frame, self.schedule = frame, schedule

        def forward(self, y: Tensor, t: Tensor, **_: Any) -> Any:
            return denoise.DiracPosterior(mean=self.frame.denoise(y, self.schedule(t)[1]))

    return Rho, OfFrame


@dataclass(frozen=True)
class Azula(Contender):
    """A sampler of azula on its VE schedule, and the denoiser at the last level.

    sampler: its class without "Sampler". grid: exponential, equal steps in log kappa, its default; or karras.
    options: the sampler's own, such as order or eta.
    """

    sampler: str
    grid: str = "exponential"
    options: dict[str, Any] = field(default_factory=dict)
    library = "azula"

    def __post_init__(self) -> None:
        if self.sampler not in _SAMPLERS:
            raise InputError(nearest(self.sampler, _SAMPLERS, "sampler of azula"))
        if self.grid not in GRIDS:
            raise InputError(nearest(self.grid, GRIDS, "grid of azula"))

    @property
    def name(self) -> str:
        return ":".join([self.sampler, self.grid, *(f"{k}={v}" for k, v in self.options.items())])

    @property
    def stochastic(self) -> bool:
        return _SAMPLERS[self.sampler][1] or bool(self.options.get("eta"))

    def start(self, model: ScoreModel, calls: int) -> float:
        return linear(model.sde).t_max

    def run(self, model: ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        a_step = _SAMPLERS[self.sampler][0]
        steps = (calls - 1) // a_step
        if steps < 1:
            raise too_few(self.label, calls, a_step + 1)
        (_, noise, sample), (rho, of_frame) = _parts(), _classes()
        frame = Frame(model, x_T, self.start(model, calls))
        schedule = (noise.VESchedule if self.grid == "exponential" else rho)(frame.low, frame.high)
        sampler = getattr(sample, f"{self.sampler}Sampler")(
            of_frame(frame, schedule), steps=steps, silent=True, dtype=torch.float64, device=x_T.device, **self.options
        )
        y = sampler(frame.y).to(x_T.dtype)
        return Finish(frame.denoise(y, frame.low), calls=a_step * steps + 1)


def named(name: str, grid: str | None = None, **options: Any) -> Contender:
    """A sampler by name: azula:zAB, azula:zAB:karras:order=3."""
    return Azula(name, options=options, **({} if grid is None else {"grid": grid}))


def everything() -> Iterator[Contender]:
    """Every sampler on both schedules, multistep ones at orders 2 and 3."""
    for sampler in _SAMPLERS:
        for options in [{"order": 2}, {"order": 3}] if sampler.endswith("AB") else [{}]:
            for grid in GRIDS:
                yield Azula(sampler, grid, options)
