"""`from_score_sde`: checkpoints of yang-song/score_sde_pytorch and of code that follows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdediff._utils.suggestions import nearest
from sdediff.bridges.architecture import Network, as_range, asked, card_of, filled, network_of
from sdediff.bridges.checkpoints import read_checkpoint
from sdediff.bridges.errors import BridgeError
from sdediff.model.clock import Clock
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import SDE
from sdediff.sde.processes import VE, VP, SubVP
from sdediff.sde.table import Table

_KINDS = ("vpsde", "subvpsde", "vesde")


def from_score_sde(
    path: str | Path,
    network: Network,
    *,
    sde: str | None = None,
    continuous: bool | None = None,
    num_scales: int | None = None,
    beta_min: float = 0.1,
    beta_max: float = 20.0,
    sigma_min: float = 0.01,
    sigma_max: float | None = None,
    ema: bool = True,
    range: Sequence[float] | None = None,
    config: dict[str, Any] | None = None,
) -> ScoreModel:
    """A checkpoint of score_sde_pytorch as a ScoreModel. Song et al. 2021.

    network: its architecture, a module, or a class or "module:Class" called with `config`. sde: "vpsde", "subvpsde" or
    "vesde"; continuous, num_scales, beta_min to sigma_max: of the training configuration. VP and sub-VP predict eps at
    the clock 999 t; VE predicts the score at the clock sigma, or at labels that count from the largest sigma. ema: the
    averaged weights, which the file lists in the order of the parameters that need gradients. range: of the data,
    (0, 1), or (-1, 1) where centered. Raises BridgeError: settings that are not given, files that do not fit.
    """
    asked("score_sde", sde=sde, continuous=continuous)
    process, predicts, time = _process(
        str(sde), bool(continuous), num_scales, (beta_min, beta_max), sigma_min, sigma_max
    )
    stored = read_checkpoint(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("model"), dict):
        raise BridgeError(f"{path}: no checkpoint of score_sde, which holds model and ema: give its file")
    module = network_of(network, config)
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    filled(module, stored["model"], path)
    if ema:
        _average(trained, stored.get("ema"), path)
    card = card_of("score_sde", path, module, {"range": as_range(range)}, ["averaged weights"] if ema else [])
    return ScoreModel(module, process, predicts, time, card=card)


def _process(
    kind: str, continuous: bool, n: int | None, betas: tuple[float, float], sigma_min: float, sigma_max: float | None
) -> tuple[SDE, str, str | Clock]:
    """Process, parametrisation and clock of a training configuration."""
    if kind not in _KINDS:
        raise BridgeError(nearest(kind, _KINDS, "sde"))
    if kind == "vesde":
        asked("score_sde", sigma_max=sigma_max)
    if not continuous and kind != "subvpsde":
        asked("score_sde", num_scales=n)
    if kind == "subvpsde":
        return SubVP(*betas), "eps", Clock("t", 999)
    if kind == "vpsde":
        if continuous:
            return VP(*betas), "eps", Clock("t", 999)
        rising = torch.linspace(betas[0] / int(n or 0), betas[1] / int(n or 0), int(n or 0), dtype=torch.float64)
        return Table.from_betas(rising), "eps", "index"
    largest = float(sigma_max or 0)
    if continuous:
        return VE(sigma_min, largest), "score", "sigma"
    ends = torch.tensor([largest, sigma_min], dtype=torch.float64).log()
    falling = torch.linspace(ends[0].item(), ends[1].item(), int(n or 0), dtype=torch.float64).exp()
    return Table.from_sigmas(falling, descending=True), "score", "index"


def _average(weights: list[nn.Parameter], ema: Any, path: str | Path) -> None:
    """Put the averaged weights into the parameters that were trained, in order."""
    shadow = ema.get("shadow_params") if isinstance(ema, dict) else None
    if not isinstance(shadow, list) or not all(isinstance(value, Tensor) for value in shadow):
        raise BridgeError(f"{path}: no averaged weights (ema, shadow_params): write ema=False for the others")
    shapes = [tuple(value.shape) for value in shadow]
    if shapes != [tuple(weight.shape) for weight in weights]:
        raise BridgeError(
            f"{path}: {len(shadow)} averaged weights for {len(weights)} parameters that need gradients, or of other "
            "shapes: the order is the network's own, give it as it was trained, frozen parameters included"
        )
    with torch.no_grad():
        for weight, value in zip(weights, shadow, strict=True):
            weight.copy_(value)
