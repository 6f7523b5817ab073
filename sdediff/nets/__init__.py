"""Small reference networks. `NETS` names them for configuration files."""

from sdediff.nets.classifier import Classifier
from sdediff.nets.critic import PatchCritic
from sdediff.nets.mlp import MLP
from sdediff.nets.registry import NETS
from sdediff.nets.unet import UNet

__all__ = ["MLP", "NETS", "Classifier", "PatchCritic", "UNet"]
