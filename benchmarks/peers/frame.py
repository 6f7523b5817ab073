"""The frame that every system is run in: one start, one end, one denoiser whose calls are counted.

A peer sees y = x/alpha and kappa = sigma/alpha, so any linear process is one of k-diffusion's; schedulers that keep
the variance get y/sqrt(1 + kappa^2). Whatever it does between, a run ends with the denoiser at the last level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import sdediff as sd


class Spent(Exception):
    """A run asked for more calls than it may have."""


class Denoiser:
    """D(y, kappa) of a model, at y = x/alpha and kappa = sigma/alpha, with its calls counted and limited."""

    def __init__(self, model: sd.ScoreModel, low: float, high: float) -> None:
        self.model, self.low, self.high = model, low, high
        self.calls, self.limit = 0, 0
        self._levels: dict[float, sd.Level] = {}

    def begin(self, limit: int) -> None:
        """Count anew, up to `limit`."""
        self.calls, self.limit = 0, limit

    def __call__(self, y: Tensor, kappa: Any) -> Tensor:
        value = min(max(float(kappa), self.low), self.high)
        if value not in self._levels:
            sde = self.model.sde
            self._levels[value] = sd.level(sde, sde.t_of_lam(-math.log(value)).item())  # type: ignore[attr-defined]
        here = self._levels[value]
        return self.counted(self.model)(y * here.alpha, here).x0

    def counted(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose calls count here."""

        def call(*args: Any, **options: Any) -> Any:
            if self.calls >= self.limit:
                raise Spent
            self.calls += 1
            return run(*args, **options)

        return call


@dataclass(frozen=True, eq=False)
class Setting:
    """A task as every system meets it: states x (B, ...) at the process's T, the denoiser, the two end levels."""

    name: str
    model: sd.ScoreModel
    x: Tensor
    low: float
    high: float
    net: Denoiser
    exact: Tensor = field(repr=False)

    @property
    def y(self) -> Tensor:
        """The start in the frame x/alpha."""
        return self.x / sd.level(self.model.sde, self.model.sde.T).alpha

    def first(self, count: int) -> Setting:
        """The same task on its first starts."""
        return Setting(self.name, self.model, self.x[:count], self.low, self.high, self.net, self.exact[:count])

    def error(self, x: Tensor) -> float:
        """The median over the starts of the rms distance, over coordinates, to the exact flow's own end."""
        gap = (x.double() - self.exact.double()).flatten(1)
        return gap.square().mean(1).sqrt().median().item()


@dataclass(frozen=True)
class Entry:
    """A row of the table: `run(setting, calls)` gives x0 from at most that many calls, None where none fits.

    An adaptive one has `tolerances` in place of a count: run(setting, tolerance). `default` marks a peer's own
    defaults. It raises Spent through the denoiser when it asks for more.
    """

    system: str
    name: str
    run: Callable[[Setting, Any], Tensor | None] = field(repr=False)
    tolerances: tuple[float, ...] = ()
    default: bool = False


# From hardly any control to what fifty calls can hold.
TOLERANCES = tuple(10 ** (1 - k / 2) for k in range(9))


def spaced(kind: str, n: int, low: float, high: float) -> Tensor:
    """n levels from high to low, float64: "karras" in kappa^(1/7), "rho3" in kappa^(1/3), "exponential" in log."""
    if kind == "exponential":
        return torch.linspace(math.log(high), math.log(low), n, dtype=torch.float64).exp()
    power = {"karras": 7.0, "rho3": 3.0}[kind]
    return torch.linspace(high ** (1 / power), low ** (1 / power), n, dtype=torch.float64) ** power
