"""Images of a latent model to its states and back, a few at a time and where its autoencoder is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from sdediff.model.score_model import ScoreModel

_AT_ONCE = 16  # images


def encoded(model: ScoreModel, images: Tensor) -> Tensor:
    """Latents (B, C, h, w) of images (B, channels, H, W) in the autoencoder's range, on the CPU."""
    return _in_parts(model.autoencoder, model.autoencoder.encode, images)


def decoded(model: ScoreModel, latents: Tensor) -> Tensor:
    """Images (B, channels, H, W) of latents (B, C, h, w), on the CPU."""
    return _in_parts(model.autoencoder, model.autoencoder.decode, latents)


def _in_parts(autoencoder: Any, coded: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    import torch

    from sdediff.model.network import look

    device = look(autoencoder).device or x.device
    with torch.no_grad():
        return torch.cat([coded(part.to(device)).cpu() for part in x.split(_AT_ONCE)])
