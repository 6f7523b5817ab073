"""Small reference networks. `NETS` names them for configuration files."""

from __future__ import annotations

from torch import nn

from sdediff.nets.mlp import MLP
from sdediff.nets.unet import UNet

NETS: dict[str, type[nn.Module]] = {"UNet": UNet, "MLP": MLP}

__all__ = ["MLP", "NETS", "UNet"]
