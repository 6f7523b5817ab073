"""What a scheduler of diffusers does, step by step: its levels, its frame and the output that it expects."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.sde.processes import VP

KNOTS = 1000


def bars(low: float, high: float) -> Tensor:
    """alpha_bars (1000,) of DDPM's shape between two levels: VP's at equal times, beta_min 0.1, beta_max to fit."""
    vp = VP(0.1, 2 * math.log1p(high**2) - 0.1, t_min=1e-9)
    times = torch.linspace(vp.t_of_lam(-math.log(low)).item(), vp.T, KNOTS, dtype=torch.float64)
    return vp.alpha(times) ** 2


class Visits:
    """The levels of a scheduler whose timesteps are set, and its frame.

    flow: its sigmas are the time of a flow, x = (1 - s) x0 + s eps. edm: its states are scaled by EDM's input factor
    when they meet the network. in_kappa: its states are x/alpha, not those that keep the variance.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.config = scheduler, scheduler.config
        kind = type(scheduler).__name__
        self.flow = kind.startswith("FlowMatch") or bool(self.config.get("use_flow_sigmas"))
        self.edm = kind.startswith(("EDM", "Cosine"))
        first = float(getattr(scheduler, "init_noise_sigma", 1.0))
        self.in_kappa = not self.flow and (self.edm or first != 1)
        if not hasattr(scheduler, "sigmas") and not hasattr(scheduler, "alphas_cumprod"):
            raise InputError(f"{kind} has neither sigmas nor alphas_cumprod: its levels cannot be read")

    def kappa(self, step: int, timestep: Any) -> float:
        """sigma/alpha where the network is evaluated in a step."""
        it = self.scheduler
        if getattr(it, "sigmas", None) is not None:
            inner = getattr(it, "sigmas_interpol", None)
            sigma = float(it.sigmas[step] if inner is None or step % 2 == 0 else inner[step])
            return sigma / max(1 - sigma, 1e-12) if self.flow else sigma
        bar = float(it.alphas_cumprod[int(timestep)])
        return math.sqrt((1 - bar) / bar)

    def of_y(self, kappa: float) -> float:
        """The factor from y = x/alpha to the scheduler's state at a level."""
        if self.flow:
            return 1 / (1 + kappa)
        return 1.0 if self.in_kappa else 1 / math.hypot(1.0, kappa)

    def output(self, y: Tensor, x0: Tensor, kappa: float) -> Tensor:
        """What its network would have given: the prediction type of its configuration, at y of level kappa."""
        kind = self.config.get("prediction_type", "epsilon")
        eps = (y - x0) / kappa
        if self.edm:
            return self._edm(y, x0, kappa, kind)
        if kind == "sample":
            return x0
        if self.flow and (kind == "flow_prediction" or "prediction_type" not in self.config):
            return eps - x0
        if kind == "v_prediction":
            return (eps - kappa * x0) / math.hypot(1.0, kappa)
        return eps

    def _edm(self, y: Tensor, x0: Tensor, kappa: float, kind: str) -> Tensor:
        """F of x0 = c_skip y + c_out F."""
        data = float(self.config.get("sigma_data", 0.5))
        width = math.hypot(data, kappa)
        output = (x0 - data**2 / width**2 * y) * (width / (kappa * data))
        return -output if kind == "v_prediction" else output

    def last_kappa(self) -> float:
        """sigma/alpha where its last step ends; 0 for data."""
        it = self.scheduler
        if getattr(it, "sigmas", None) is not None:
            after = float(it.sigmas[-1])
            return after / max(1 - after, 1e-12) if self.flow else after
        bar = float(getattr(it, "final_alpha_cumprod", 1.0))
        return math.sqrt((1 - bar) / bar)

    def stays(self) -> bool:
        """Whether its last step ends at the level where it begins."""
        sigmas = getattr(self.scheduler, "sigmas", None)
        return sigmas is not None and not float(sigmas[-1]) < float(sigmas[-2]) * (1 - 1e-6)
