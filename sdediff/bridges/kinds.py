"""Which library a folder or a file is of."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sdediff._utils.files import expanded
from sdediff.bridges.checkpoints import read_checkpoint
from sdediff.bridges.errors import BridgeError
from sdediff.bridges.pipelines import is_diffusers_folder

# For each there is a function from_<kind>.
KINDS = ("diffusers", "score_sde", "guided_diffusion", "k_diffusion", "edm")


def kind_of(source: str | Path) -> str:
    """The one of KINDS that a folder or a checkpoint looks like. BridgeError: none, or one that cannot be read."""
    path = expanded(source)
    if path.is_dir():
        if is_diffusers_folder(path):
            return "diffusers"
        raise BridgeError(f"{path}: no folder of diffusers, which holds model_index.json or scheduler_config.json")
    if path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    stored = read_checkpoint(path)
    if isinstance(stored, dict):
        if "model_ema" in stored:
            return "k_diffusion"
        ema = stored.get("ema")
        if isinstance(ema, dict) and "shadow_params" in ema:
            return "score_sde"
        if stored and all(isinstance(value, Tensor) for value in stored.values()):
            return "guided_diffusion"
    raise BridgeError(f"{path}: it does not look like one of {', '.join(KINDS)}: write which it is as --kind")


_SUFFIXES = {".pkl": "edm", ".safetensors": "k_diffusion"}
