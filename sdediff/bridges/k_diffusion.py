"""`from_k_diffusion`: checkpoints of crowsonkb/k-diffusion, of training and slim ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdediff._utils.checks import number
from sdediff._utils.files import expanded
from sdediff.bridges.architecture import Network, card_of, filled, network_of
from sdediff.bridges.checkpoints import read_checkpoint, read_safetensors
from sdediff.bridges.errors import BridgeError
from sdediff.model.score_model import ScoreModel
from sdediff.sde.processes import EDM


def from_k_diffusion(
    path: str | Path,
    network: Network,
    *,
    settings: Mapping[str, Any] | str | Path | None = None,
    ema: bool = True,
    config: dict[str, Any] | None = None,
) -> ScoreModel:
    """A checkpoint of k-diffusion as a ScoreModel: EDM's preconditioning, with sigma as the clock. Karras et al. 2022.

    path: a training checkpoint, or a slim one in safetensors format, whose metadata hold the configuration. network:
    its architecture (the inner model), a module, or a class or "module:Class" called with `config`. settings: the
    configuration, a dictionary or a JSON file, where the file has none; sigma_data, 1 where it is not said, sigma_min,
    sigma_max, input_channels and input_size are read of it. ema: the averaged weights of a training checkpoint.
    Raises BridgeError: a file without weights or configuration, weights that do not fit.
    """
    path = expanded(path)
    weights, described = _slim(path) if path.suffix == ".safetensors" else _trained(path, ema)
    if settings is not None:
        described = settings if isinstance(settings, Mapping) else _json(expanded(settings, "settings"))
    about = described.get("model") if isinstance(described, Mapping) else None
    if not isinstance(about, Mapping):
        raise BridgeError(f"{path}: no configuration in it: write settings=, the JSON file that it was trained with")
    least = _positive(about, "sigma_min", 0.002)
    sde = EDM(T=_positive(about, "sigma_max", 80.0), t_min=least)
    module = filled(network_of(network, config), weights, path)
    card = card_of("k-diffusion", path, module, {"shape": _shape(about), "range": [-1.0, 1.0]}, [])
    return ScoreModel(module, sde, "edm", "sigma", _positive(about, "sigma_data", 1.0), card=card)


def _positive(about: Mapping[str, Any], name: str, default: float) -> float:
    value = number(f"{name} of the configuration", about.get(name, default))
    if value <= 0:
        raise BridgeError(f"{name}={value} in the configuration: needed is a positive number")
    return value


def _shape(about: Mapping[str, Any]) -> list[int] | None:
    channels, size = about.get("input_channels"), about.get("input_size")
    sizes = [channels, *(size if isinstance(size, list | tuple) else [size, size])]
    return sizes if all(isinstance(n, int) and n > 0 for n in sizes) else None


def _slim(path: Path) -> tuple[dict[str, Any], Any]:
    """Weights and configuration of a safetensors file."""
    weights, metadata = read_safetensors(path)
    try:
        return weights, json.loads(metadata["config"]) if "config" in metadata else None
    except (ValueError, RecursionError) as error:
        raise BridgeError(f"{path}: its configuration is no JSON ({error}): write settings=") from error


def _trained(path: Path, ema: bool) -> tuple[dict[str, Any], Any]:
    """Weights and configuration of a training checkpoint."""
    stored, name = read_checkpoint(path), "model_ema" if ema else "model"
    if not isinstance(stored, dict) or not isinstance(stored.get(name), dict):
        raise BridgeError(f"{path}: no checkpoint of k-diffusion, which holds model and model_ema: give its file")
    return stored[name], stored.get("config")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BridgeError(f"settings={path}: cannot be read as JSON ({error})") from error
