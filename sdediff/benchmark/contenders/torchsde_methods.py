"""torchsde's methods on the reverse-time SDE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff.benchmark.contenders.frame import too_few
from sdediff.benchmark.contenders.protocol import Contender, Finish
from sdediff.model.score_model import ScoreModel

INSTALL = "pip install torchsde"
# Evaluations a step and once a run, of which one is the library's look at the drift's shape. Its srk evaluates
# the drift of earlier stages again.
_CALLS = {
    "euler": (1, 1), "milstein": (1, 1), "srk": (10, 1), "euler_heun": (1, 1), "heun": (2, 1), "midpoint": (2, 1),
    "reversible_heun": (1, 2),
}  # fmt: skip
DEFAULT = ("euler", "heun", "milstein")


@dataclass(frozen=True)
class TorchSDE(Contender):
    """A method of torchsde over equal steps of the process's time, by its own Brownian interval, then the denoiser."""

    method: str
    library = "torchsde"
    stochastic = True

    def __post_init__(self) -> None:
        if self.method not in _CALLS:
            raise InputError(nearest(self.method, _CALLS, "method of torchsde"))

    @property
    def name(self) -> str:
        return self.method

    @property
    def _area(self) -> dict[str, str]:
        return {"levy_area_approximation": "space-time"} if self.method == "srk" else {}

    def start(self, model: ScoreModel, calls: int) -> float:
        return model.sde.t_max

    def run(self, model: ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        import torchsde

        a_step, once = _CALLS[self.method]
        sde, denoised = model.sde, int(model.sde.linear)
        start, stop = self.start(model, calls), float(sde.t_min)
        steps = (calls - denoised - once) // a_step
        if steps < 1:
            raise too_few(self.label, calls, a_step + once + denoised)
        flat = x_T.flatten(1)
        path = torchsde.BrownianInterval(-start, -stop, flat.shape, flat.dtype, flat.device, entropy=seed, **self._area)
        times = torch.tensor([-start, -stop], dtype=torch.float64, device=x_T.device)
        # A little above the exact step, so that rounding does not add another.
        dt = (start - stop) / steps * (1 + 1e-9)
        reverse = _Reverse(model, x_T.shape, self.method in ("euler", "milstein", "srk"), stop, start)
        x = torchsde.sdeint(reverse, flat, times, bm=path, method=self.method, dt=dt)[-1].reshape(x_T.shape)
        x = x.to(x_T.dtype)
        claimed = a_step * steps + once + denoised
        return Finish(model(x, stop).x0, 0.0, claimed) if denoised else Finish(x, stop, claimed)


class _Reverse:
    """The reverse-time SDE in the time -t, with torchsde's names."""

    noise_type = "diagonal"

    def __init__(self, model: ScoreModel, shape: torch.Size, ito: bool, stop: float, start: float) -> None:
        self.sde_type = "ito" if ito else "stratonovich"
        self.model, self.shape, self.ends = model, shape, (stop, start)

    def _time(self, t: Any) -> float:
        return min(max(-float(t), self.ends[0]), self.ends[1])

    def f(self, t: Any, flat: Tensor) -> Tensor:
        """The drift."""
        x, time = flat.reshape(self.shape), self._time(t)
        score = self.model(x, time).score
        drift = self.model.sde.drift(x, time) - self.model.sde.diffusion(time).to(x) ** 2 * score
        return -drift.flatten(1).to(flat.dtype)

    def g(self, t: Any, flat: Tensor) -> Tensor:
        """The diffusion, a diagonal one."""
        return self.model.sde.diffusion(self._time(t)).to(flat).expand_as(flat)


def named(name: str, grid: str | None = None, **options: Any) -> Contender:
    """A method by name: torchsde:euler."""
    for given in ([grid] if grid is not None else []) + list(options):
        raise InputError(f"torchsde:{name} takes equal steps and no options: leave {given!r} out")
    return TorchSDE(name)


def everything() -> Iterator[Contender]:
    """Every method."""
    for method in _CALLS:
        yield TorchSDE(method)
