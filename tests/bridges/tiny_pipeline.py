"""A Stable Diffusion pipeline of a few thousand random weights, with a tokenizer of letters."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
STABLE = {
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
LENGTH = 16  # tokens that the text encoder takes


def scheduler(kind: str, **config: Any) -> Any:
    """A scheduler with Stable Diffusion's betas, and of its other fields those that it takes."""
    made = getattr(diffusers, kind)
    taken = made.__init__.__wrapped__.__code__.co_varnames
    return made(**{key: value for key, value in (STABLE | config).items() if key in taken or key in config})


def tokenizer() -> Any:
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        vocabulary[letter] = len(vocabulary)
        vocabulary[letter + "</w>"] = len(vocabulary)
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=LENGTH)


@functools.cache
def parts(channels: int) -> tuple[Any, ...]:
    """Autoencoder, text encoder and network, in eval mode, the same for every test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = diffusers.AutoencoderKL(
            block_out_channels=(4, 4), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=2,
            up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1,
        )  # fmt: skip
        text = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=54, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                max_position_embeddings=LENGTH, bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )
        )  # fmt: skip
        unet = diffusers.UNet2DConditionModel(
            sample_size=8, in_channels=channels, out_channels=4, layers_per_block=1, block_out_channels=(4, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), norm_num_groups=4, cross_attention_dim=8,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4,
        )  # fmt: skip
        for part in (vae, text, unet):
            for weight in part.parameters():
                weight.data.add_(0.05 * torch.randn(weight.shape))
    return vae.eval(), text.eval(), unet.eval()


def pipeline(kind: str = "DDIMScheduler", channels: int = 4, **config: Any) -> Any:
    """The pipeline with a scheduler; channels: that the network reads, 9 for one trained to inpaint."""
    vae, text, unet = parts(channels)
    made = diffusers.StableDiffusionPipeline(
        vae, text, tokenizer(), unet, scheduler(kind, **config), None, None, requires_safety_checker=False
    )
    made.set_progress_bar_config(disable=True)
    return made


def start(batch: int = 2) -> Tensor:
    """Unit normals of the shape of latents."""
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(5))
