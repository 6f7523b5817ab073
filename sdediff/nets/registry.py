"""The networks that a model folder may name."""

from __future__ import annotations

from torch import nn

from sdediff.nets.classifier import Classifier
from sdediff.nets.mlp import MLP
from sdediff.nets.unet import UNet

NETS: dict[str, type[nn.Module]] = {"UNet": UNet, "MLP": MLP, "Classifier": Classifier}
