"""The betas of diffusers' schedulers, in float64, from a scheduler's configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.suggestions import nearest
from sdediff.bridges.errors import BridgeError
from sdediff.sde.base import SDEError
from sdediff.sde.table import Table

# The last alpha_bar of these after rescaling to zero terminal SNR; of others it is 0.
_SMALLEST_BAR = 2.0**-24
_LIFTED = ("EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep")
_MOST = 1_000_000


def table_of(config: Mapping[str, Any], kind: str) -> Table:
    """The table of a scheduler. config: its scheduler_config.json; kind: its class, without "Scheduler".

    Raises BridgeError: a schedule that is unknown, or values that make none.
    """
    try:
        betas = _betas(config, kind)
        if not config.get("rescale_betas_zero_snr"):
            return Table.from_betas(betas)
        table = Table.from_betas(betas, zero_terminal_snr=True)
        if kind not in _LIFTED:
            return table
        last = 0.5 * (math.log(_SMALLEST_BAR) - math.log1p(-_SMALLEST_BAR))
        # Where the timestep before is noisier than that, the library's own table rises at its end.
        return Table((*table.lams[:-1], last)) if last < table.lams[-2] else table
    except (SDEError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, BridgeError):
            raise
        raise BridgeError(
            f"the betas of {kind}Scheduler make no table ({error}): mend scheduler_config.json"
        ) from error


def _betas(config: Mapping[str, Any], kind: str) -> Tensor:
    given = config.get("trained_betas")
    if given is not None:
        return torch.as_tensor(given, dtype=torch.float64)
    n, name = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    if not isinstance(n, int) or not 2 <= n <= _MOST:
        raise BridgeError(f"num_train_timesteps={n!r}: needed is a whole number from 2 to {_MOST}")
    if name not in SCHEDULES:
        raise BridgeError(nearest(str(name), SCHEDULES, "beta_schedule"))
    start, end = _ENDS.get(kind, (1e-4, 0.02))
    return SCHEDULES[name](n, float(config.get("beta_start", start)), float(config.get("beta_end", end)))


# What the classes take where a configuration does not say.
_ENDS = dict.fromkeys(("DPMSolverSDE", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete"), (0.00085, 0.012))


def _linear(n: int, start: float, end: float) -> Tensor:
    return torch.linspace(start, end, n, dtype=torch.float64)


def _scaled_linear(n: int, start: float, end: float) -> Tensor:
    """Linear in the square root of beta. Rombach et al. 2022."""
    return torch.linspace(start**0.5, end**0.5, n, dtype=torch.float64) ** 2


def _sigmoid(n: int, start: float, end: float) -> Tensor:
    """Xu et al. 2022 (GeoDiff)."""
    return torch.sigmoid(torch.linspace(-6, 6, n, dtype=torch.float64)) * (end - start) + start


def _from_bars(bar: Callable[[float], float]) -> Callable[[int, float, float], Tensor]:
    """1 - bar((i + 1)/n)/bar(i/n), at most 0.999, from a function alpha_bar on [0, 1]."""

    def betas(n: int, start: float, end: float) -> Tensor:
        bars = torch.tensor([bar(i / n) for i in range(n + 1)], dtype=torch.float64)
        return (1 - bars[1:] / bars[:-1]).clamp(max=0.999)

    return betas


def _cosine(u: float) -> float:
    """Nichol and Dhariwal 2021, eq. 17."""
    return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2


def _laplace(u: float) -> float:
    """Hang and Gu 2024, as the library has it: the root of what its name says."""
    rise = -0.5 * math.copysign(1, 0.5 - u) * math.log(1 - 2 * abs(0.5 - u) + 1e-6)
    return math.sqrt(1 / (1 + math.exp(-rise)))


# From the number of timesteps and the ends to the betas, float64 (n,).
SCHEDULES: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": _from_bars(_cosine),
    "sigmoid": _sigmoid,
    "laplace": _from_bars(_laplace),
    "exp": _from_bars(lambda u: math.exp(-12 * u)),
}
