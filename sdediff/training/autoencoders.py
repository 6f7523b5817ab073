"""Autoencoders of latent diffusion: reconstruction, KL or VQ regularisation, a patch-adversarial term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from sdediff._utils.checks import number, states, whole
from sdediff._utils.errors import InputError, InputTypeError
from sdediff.bridges import DiffusersAutoencoder
from sdediff.model.score_model import ScoreModel
from sdediff.model.wrappers import unwrapped
from sdediff.nets import PatchCritic
from sdediff.sde.processes import VP
from sdediff.training.draws import OWN, Draws
from sdediff.training.loop import build, train
from sdediff.training.objective import TrainingObjective
from sdediff.training.settings import TrainingLog, TrainingSettings


class CriticisedAutoencoder(nn.Module):
    """An autoencoder by class and configuration with the critic of its reconstructions, as one module to train."""

    def __init__(
        self, name: str, config: dict[str, Any], width: int = 32, autoencoder: DiffusersAutoencoder | None = None
    ) -> None:
        super().__init__()
        self.config = {"name": name, "config": config, "width": width}
        self.autoencoder = autoencoder or DiffusersAutoencoder(name, config)
        self.critic = PatchCritic(self.autoencoder.channels, width)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """The reconstruction of images."""
        return self.autoencoder.decode(self.autoencoder.encode(x))


@dataclass(frozen=True)
class AutoencoderLoss(TrainingObjective):
    """mean |x - decoded| + regularisation + adversarial w (-D(decoded)) + the critic's hinge loss, a sample each.

    Of KL autoencoders the regularisation is kl times the KL divergence of the latents from N(0, I), over the number of
    an image's values; of VQ |e - sg z|^2 + commitment |z - sg e|^2. From update `start` on the critic acts, with
    w = |grad of the reconstruction| / (|grad of -D| + 1e-4) at the decoder's last layer, at most 1e4: Esser et al.
    2021, eq. 7; Rombach et al. 2022, appendix G.
    """

    kl: float = 1e-6
    commitment: float = 0.25
    adversarial: float = 0.5
    start: int = 0

    def __post_init__(self) -> None:
        for name in ("kl", "commitment", "adversarial"):
            if number(name, getattr(self, name)) < 0:
                raise InputError(f"{name}={getattr(self, name)}: a weight of the loss, give 0 or more")
        whole("start", self.start, 0)

    def __call__(self, model: ScoreModel, x0: Tensor, cond: dict[str, Any], draws: Draws) -> Tensor:
        pair = unwrapped(model.net)
        if not isinstance(pair, CriticisedAutoencoder):
            raise InputTypeError("AutoencoderLoss trains an autoencoder: write train_autoencoder(autoencoder, data)")
        network = pair.autoencoder.network
        z, regularisation = self.latents(pair.autoencoder, states("x0", x0), draws)
        decoded = network.decode(z, force_not_quantize=True)[0] if _quantises(network) else network.decode(z)[0]
        error = (x0 - decoded).abs().flatten(1).mean(1)
        losses = error + regularisation
        if not self.adversarial or draws.update < self.start:
            return losses
        return losses + self._against(pair, x0, decoded, error)

    def latents(self, autoencoder: DiffusersAutoencoder, x0: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """What the decoder is given, without shift and scale, and the regularisation a sample (B,)."""
        network = autoencoder.network
        if _quantises(network):
            z = network.encode(x0)[0]
            e = network.quantize.embedding(network.quantize(z.detach())[2][2])
            e = e.reshape(len(z), *z.shape[2:], -1).movedim(-1, 1)
            return z + (e - z).detach(), vq_loss(z, e, self.commitment)
        if autoencoder.name != "AutoencoderKL":
            raise InputError(f"{autoencoder.name} has no regularisation here: train AutoencoderKL or VQModel")
        found = network.encode(x0).latent_dist
        z = found.mean + found.std * draws.normals(found.mean, OWN)
        return z, self.kl * kl_to_normal(found.mean, found.logvar) / x0[0].numel()

    def _against(self, pair: CriticisedAutoencoder, x0: Tensor, decoded: Tensor, error: Tensor) -> Tensor:
        """The adversarial terms: the autoencoder's, through a critic that it does not move, and the critic's own."""
        frozen = {name: weight.detach() for name, weight in pair.critic.named_parameters()}
        fooled = -functional_call(pair.critic, frozen, (decoded,)).flatten(1).mean(1)
        last = pair.autoencoder.network.decoder.conv_out.weight
        slopes = [torch.autograd.grad(term.mean(), last, retain_graph=True)[0].norm() for term in (error, fooled)]
        weight = (slopes[0] / (slopes[1] + 1e-4)).clamp(max=1e4)
        real, false = (pair.critic(images).flatten(1) for images in (x0, decoded.detach()))
        hinge = functional.relu(1 - real).mean(1) + functional.relu(1 + false).mean(1)
        return self.adversarial * weight * fooled + 0.5 * hinge


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """sum (mean^2 + e^l - 1 - l)/2 over the dimensions of N(mean, e^l), a sample each (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)


def vq_loss(z: Tensor, e: Tensor, commitment: float = 0.25) -> Tensor:
    """mean |e - sg z|^2 + commitment mean |z - sg e|^2, a sample each (B,). van den Oord et al. 2017, eq. 3."""
    codebook, committed = ((a - b.detach()).square().flatten(1).mean(1) for a, b in ((e, z), (z, e)))
    return codebook + commitment * committed


def train_autoencoder(
    autoencoder: DiffusersAutoencoder,
    batches: Any,
    settings: TrainingSettings | None = None,
    *,
    kl: float = 1e-6,
    commitment: float = 0.25,
    adversarial: float = 0.5,
    adversarial_from: float = 0.3,
    **options: Any,
) -> TrainingLog:
    """Fits an autoencoder in place by the trainer and leaves it in eval mode; shift and scale come after, `scaled_to`.

    batches: as in `sd.train`, images (B, C, H, W) in [-1, 1]. kl, commitment, adversarial: weights of AutoencoderLoss;
    adversarial_from: the share of the updates after which the critic acts. options: of `sd.train`, such as out.
    """
    settings = TrainingSettings() if settings is None else settings
    if not 0 <= number("adversarial_from", adversarial_from) <= 1:
        raise InputError(f"adversarial_from={adversarial_from}: a share of the updates, give a number in [0, 1]")
    start = round(adversarial_from * settings.updates)
    config = autoencoder.config
    pair = build(lambda: CriticisedAutoencoder(**config, autoencoder=autoencoder), settings.seed).requires_grad_(True)
    loss = AutoencoderLoss(kl, commitment, adversarial, start)
    log = train(ScoreModel(pair, VP()), batches, settings, loss, **options)
    autoencoder.eval().requires_grad_(False)
    return log


def _quantises(network: Any) -> bool:
    return hasattr(network, "quantize")
