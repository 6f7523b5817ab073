"""A critic of patches, the adversary of an autoencoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from sdediff.nets.blocks import group_norm


class PatchCritic(nn.Module):
    """One number a patch: images (B, C, H, W) -> (B, 1, H/4, W/4), large where a patch looks real. Isola et al. 2017.

    channels_in: C; width: channels after the first convolution. Normalised in groups, so that no sample sees another.
    """

    def __init__(self, channels_in: int = 1, width: int = 32) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"channels_in": channels_in, "width": width}
        self.first = nn.Conv2d(channels_in, width, 4, stride=2, padding=1)
        self.second, self.norm = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), group_norm(2 * width)
        self.last = nn.Conv2d(2 * width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the patches of images."""
        h = functional.leaky_relu(self.first(x), 0.2)
        return self.last(functional.leaky_relu(self.norm(self.second(h)), 0.2))
