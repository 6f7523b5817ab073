"""`from_guided_diffusion`: checkpoints of openai/guided-diffusion and improved-diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sdediff._utils.checks import flag, whole
from sdediff._utils.suggestions import nearest
from sdediff.bridges.architecture import Network, as_range, asked, card_of, filled, network_of
from sdediff.bridges.betas import SCHEDULES
from sdediff.bridges.checkpoints import read_checkpoint
from sdediff.bridges.errors import BridgeError
from sdediff.model.clock import Clock
from sdediff.model.score_model import ScoreModel
from sdediff.sde.table import Table

_SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def from_guided_diffusion(
    path: str | Path,
    network: Network,
    *,
    noise_schedule: str | None = None,
    diffusion_steps: int | None = None,
    rescale_timesteps: bool | None = None,
    learn_sigma: bool | None = None,
    predict_xstart: bool = False,
    range: Sequence[float] | None = (-1.0, 1.0),
    config: dict[str, Any] | None = None,
) -> ScoreModel:
    """A checkpoint of guided-diffusion or improved-diffusion as a ScoreModel. Nichol and Dhariwal 2021.

    network: its architecture, a module, or a class or "module:Class" called with `config`. The other settings are the
    flags of training, which the file does not hold: noise_schedule "linear" or "cosine", diffusion_steps, and
    rescale_timesteps, by which the clock is 1000/diffusion_steps times the index. Where learn_sigma is set the network
    gives the variance beside the mean: `sd.solver("ddpm", variance="learned_range")`. A respacing is a grid,
    `grid="strided"`. Labels are the condition y. Raises BridgeError: flags that are not given, files that do not fit.
    """
    asked(
        "guided-diffusion", noise_schedule=noise_schedule, diffusion_steps=diffusion_steps,
        rescale_timesteps=rescale_timesteps, learn_sigma=learn_sigma,
    )  # fmt: skip
    if noise_schedule not in _SCHEDULES:
        raise BridgeError(nearest(str(noise_schedule), _SCHEDULES, "noise_schedule"))
    for name, value in (("rescale_timesteps", rescale_timesteps), ("learn_sigma", learn_sigma)):
        flag(name, value)
    n = whole("diffusion_steps", diffusion_steps, 2)
    scale = 1000 / n
    table = Table.from_betas(SCHEDULES[_SCHEDULES[str(noise_schedule)]](n, scale * 1e-4, scale * 0.02))
    stored = read_checkpoint(path)
    if not isinstance(stored, dict):
        raise BridgeError(f"{path}: no checkpoint of guided-diffusion, which holds weights by name: give its file")
    _check_variance(stored, bool(learn_sigma), path)
    module = filled(network_of(network, config), stored, path)
    notes = ['the network gives the variance too: sd.solver("ddpm", variance="learned_range")'] if learn_sigma else []
    card = card_of("guided-diffusion", path, module, {"range": as_range(range)}, notes)
    time = Clock("index", scale) if rescale_timesteps and scale != 1 else "index"
    return ScoreModel(module, table, "x0" if predict_xstart else "eps", time, card=card)


def _check_variance(weights: dict[str, Any], learned: bool, path: str | Path) -> None:
    """Compare learn_sigma with the channels of the first and last layer, where they are named as the library's."""
    first, last = weights.get("input_blocks.0.0.weight"), weights.get("out.2.weight")
    if not isinstance(first, Tensor) or not isinstance(last, Tensor) or not (first.ndim and last.ndim):
        return
    read, given = first.shape[1], last.shape[0]
    if learned and given == read:
        raise BridgeError(f"{path}: learn_sigma=True, but the network gives as many channels as it reads, {read}")
    if not learned and given == 2 * read:
        raise BridgeError(f"{path}: learn_sigma=False, but the network gives {given} channels for {read}: write True")
