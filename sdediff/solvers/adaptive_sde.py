"""The reverse-time SDE with steps of its own for every sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff.grids.levels import Level
from sdediff.integrate import Counted, Step, Tried, rows_of
from sdediff.model.score_model import Model
from sdediff.noise.brownian import Brownian
from sdediff.noise.counter import Noise, numbered
from sdediff.sde.base import SDE
from sdediff.solvers.adaptive import Left, OwnSteps, arrived, positive
from sdediff.solvers.base import finite


@dataclass(frozen=True)
class AdaptiveSDE(OwnSteps):
    """x' = x + K1, x_s = x + (K1 + K2)/2, K1 = h D(x, t) + g_t dW, K2 = h D(x', s) + g_s dW, D the reverse drift.

    e: the root mean square of (K2 - K1)/2 over max(atol, rtol max(|x'|, |x'_last|)), a sample's own; accepted
    where e <= 1; h <- 0.9 h e^-0.9. A rejected try goes again on the same Brownian path. first_step: a share of T.
    Stochastic; 2 calls a try, 1 after a rejection. Jolicoeur-Martineau et al. 2021, algorithm 1.
    """

    rtol: float = 0.01
    atol: float = 0.0078
    first_step: float = 0.01
    max_steps: int = 10_000

    reference = "Jolicoeur-Martineau et al. 2021, algorithm 1"
    no_kernel = "it accepts and rejects steps by their draws: take ancestral or euler_maruyama"

    def __post_init__(self) -> None:
        positive(rtol=self.rtol, atol=self.atol, first_step=self.first_step, max_steps=self.max_steps)

    @property
    def stochastic(self) -> bool:
        return True

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        finite(t, t.g2, "g^2")
        left, sde = Left(model, x, t, s, state is None), model.sde
        path = noise if isinstance(noise, Brownian) else Brownian(noise.seed, noise.index, span=sde.T)
        number = numbered(path.index, len(x))

        def drift(time: Tensor, x: Tensor, rows: Tensor) -> Tensor:
            prediction = left(x, time, rows)
            return prediction.mix(0.0, velocity=1.0, score=-0.5 * prediction.level.g2)

        field = Counted(drift, len(x))

        def attempt(step: Step) -> Tried:
            return self._try(field, step, sde, path, number)

        first = self.first_step * sde.T if state is None else state
        result = integrate.march(attempt, field, x, t.time, s.time, _ggf, first, max_steps=self.max_steps)
        return arrived(self, result, "t"), result.size

    def _try(self, field: Counted, step: Step, sde: SDE, path: Brownian, number: np.ndarray) -> Tried:
        x, own = step.x, number[step.rows.numpy()]
        slope = field.first(step)
        before, w = step.kept[1:] if step.kept else (x, path.values(step.t, x, own))
        h, after = rows_of(step.h, x), path.values(step.end, x, own)
        g, g_end = rows_of(
            sde.diffusion(torch.from_numpy(np.concatenate([step.t, step.end]))).detach().numpy(), x
        ).chunk(2)
        rise = w - after
        one = slope * h + g * rise
        ahead = x + one
        two = field(step.end, ahead, step.rows) * h + g_end * rise
        error = integrate.scaled_norm((two - one) / 2, ahead, before, self.rtol, self.atol, floor=True)
        return Tried(x + (one + two) / 2, error, (slope, ahead, after), (slope, before, w))


def _ggf(error: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
    finite_error = np.clip(np.where(np.isfinite(error), error, np.inf), 1e-8, 1e8)
    factor: np.ndarray = 0.9 * finite_error**-0.9
    return factor, error <= 1
