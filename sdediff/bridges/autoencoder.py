"""`DiffusersAutoencoder`: an autoencoder of diffusers with the shift and scale of its latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sdediff._utils.checks import states
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import hint
from sdediff.bridges.errors import BridgeError
from sdediff.bridges.network import library, plain

AUTOENCODERS = ("AutoencoderKL", "VQModel", "AutoencoderTiny")


class DiffusersAutoencoder(nn.Module):
    """An autoencoder by its class and configuration: z = (encoded - shift) scale, shift and scale of its configuration.

    scaling_factor and shift_factor are numbers, latents_mean and latents_std one a channel, which diffusers takes in
    their place. Images (B, channels, H, W) in [-1, 1], latents (B, C, h, w). Raises BridgeError: a class that is not
    known, a configuration without scaling_factor.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, name: str, config: dict[str, Any], network: nn.Module | None = None) -> None:
        super().__init__()
        if name not in AUTOENCODERS:
            raise BridgeError(f"the autoencoder {name} is not known here{hint(name, AUTOENCODERS)}")
        shift, scale = shift_and_scale(config)
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.name, self.config = name, {"name": name, "config": plain(config)}
        if network is None:
            try:
                network = getattr(library(), name).from_config(config)
            except (TypeError, ValueError, RuntimeError, KeyError) as error:
                raise BridgeError(f"the autoencoder {name} cannot be made ({error}): mend its config.json") from error
        self.network: Any = network

    @property
    def channels(self) -> int:
        """Of an image."""
        return int(self.network.config["in_channels"])

    @property
    def factor(self) -> int:
        """How many pixels a side of a latent's pixel covers."""
        return int(2 ** (len(self.network.config.get("block_out_channels") or [0]) - 1))

    def encode(self, images: Tensor, eps: Tensor | None = None) -> Tensor:
        """Latents of images: the mean of a KL autoencoder's posterior, with `eps` (like the latents) a sample of it."""
        if eps is not None or self.name == "AutoencoderKL":
            mean, std = self.posterior(images)
            return mean if eps is None else mean + std * eps.to(mean)
        return self._scaled(self.network.encode(self._images(images))[0]).to(images.dtype)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, C, h, w) of the latents q(z|x) of images, shift and scale included."""
        if self.name != "AutoencoderKL":
            raise InputError(f"{self.name} encodes without noise: leave eps out, its latents have no posterior")
        found = self.network.encode(self._images(images)).latent_dist
        return self._scaled(found.mean).to(images.dtype), (found.std * self.scale.to(found.std)).to(images.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Images of latents."""
        z = states("latents", latents).to(self._kind())
        decoded: Tensor = self.network.decode(z / self.scale.to(z) + self.shift.to(z))[0]
        return decoded.to(latents.dtype)

    def scaled_to(self, images: Tensor) -> DiffusersAutoencoder:
        """The same network with the shift and scale that give latents of these images mean 0 and deviation 1."""
        with torch.no_grad():
            z = torch.cat([self.encode(part) for part in images.split(256)]).double()
            z = z / self.scale.to(z) + self.shift.to(z)
        config = {key: value for key, value in self.config["config"].items() if not key.startswith("latents_")}
        config |= {"scaling_factor": 1 / z.std().item(), "shift_factor": z.mean().item()}
        self.network.register_to_config(**config)
        return DiffusersAutoencoder(self.name, config, self.network)

    def _images(self, images: Tensor) -> Tensor:
        size, by = tuple(states("images", images).shape), self.factor
        if len(size) != 4 or size[1] != self.channels or size[2] % by or size[3] % by:
            raise InputError(
                f"images of shape {size}: the autoencoder takes (B, {self.channels}, H, W) with sides divisible by {by}"
            )
        return images.to(self._kind())

    def _scaled(self, encoded: Tensor) -> Tensor:
        return (encoded - self.shift.to(encoded)) * self.scale.to(encoded)

    def _kind(self) -> torch.dtype:
        return next(self.network.parameters()).dtype


def shift_and_scale(config: Mapping[str, Any], where: str = "the autoencoder's configuration") -> tuple[Tensor, Tensor]:
    """Shift and scale, (1,) or (1, C, 1, 1) float32. BridgeError naming the field that is missing or no number."""
    factor = config.get("scaling_factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 0:
        given = "no scaling_factor" if factor is None else f"scaling_factor={factor!r:.60}"
        raise BridgeError(
            f"{where}: {given}: write the factor of its latents, 1 over their standard deviation (0.18215 for those of "
            "Stable Diffusion 1 and 2)"
        )
    shift = config.get("shift_factor")
    if shift is not None and (isinstance(shift, bool) or not isinstance(shift, int | float)):
        raise BridgeError(f"{where}: shift_factor={shift!r:.60}: write a number, or leave it out")
    mean, std = (_by_channel(config.get(name), name, where) for name in ("latents_mean", "latents_std"))
    if (mean is None) != (std is None):
        raise BridgeError(f"{where}: latents_mean and latents_std belong together: write both, or leave them out")
    if mean is not None and std is not None:
        return mean, float(factor) / std
    return torch.tensor([float(shift or 0)]), torch.tensor([float(factor)])


def _by_channel(values: Any, name: str, where: str) -> Tensor | None:
    if values is None:
        return None
    try:
        return torch.tensor([float(value) for value in values]).reshape(1, -1, 1, 1)
    except (TypeError, ValueError):
        raise BridgeError(f"{where}: {name}={values!r:.60}: write a number a channel, or leave it out") from None
