"""What a latent model has beside its network: an autoencoder of images, and an encoder of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from sdediff._utils.checks import shown
from sdediff._utils.errors import InputTypeError


@runtime_checkable
class Autoencoder(Protocol):
    """Images to the latents that a model's states are, shift and scale included, and back."""

    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, C, h, w) of images (B, channels, H, W)."""

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, channels, H, W) of latents (B, C, h, w)."""


@runtime_checkable
class TextEncoder(Protocol):
    """Texts to conditions of a network, by name."""

    def __call__(self, texts: str | Sequence[str]) -> dict[str, Any]:
        """Conditions with a row a text."""


def check_parts(autoencoder: Any, text_encoder: Any) -> None:
    """Refuse what is no autoencoder and no encoder of texts."""
    if autoencoder is not None and not isinstance(autoencoder, Autoencoder):
        raise InputTypeError(f"autoencoder={shown(autoencoder)}: give an object with encode(images), decode(latents)")
    if text_encoder is not None and not callable(text_encoder):
        raise InputTypeError(f"text_encoder={shown(text_encoder)}: give a function of texts that returns conditions")


def states_of(model: Any) -> str:
    """What a model's states are: "latents" of an autoencoder, or "samples"."""
    card: dict[str, Any] = model.card
    known = model.autoencoder is not None or card.get("latent") or (card.get("data") or {}).get("latent")
    return "latents" if known else "samples"


def modules_of(model: Any) -> list[nn.Module]:
    """The parts of a model that are modules."""
    return [part for part in (model.autoencoder, model.text_encoder) if isinstance(part, nn.Module)]
