"""The parts of the U-Net: residual blocks, self- and cross-attention, features of the data's levels."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm in at most eight groups that divide the channels."""
    return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)


def zero(module: nn.Conv2d | nn.Linear) -> Any:
    """A layer that starts as zero, so that a residual block starts as the identity."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


class ResBlock(nn.Module):
    """x + conv(SiLU(FiLM(norm(conv(SiLU(norm(x))))))), FiLM's shift and scale read from the clock."""

    def __init__(self, channels_in: int, channels: int, features: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels_in), nn.Conv2d(channels_in, channels, 3, padding=1)
        self.film = zero(nn.Linear(features, 2 * channels))
        self.norm2, self.conv2 = group_norm(channels), zero(nn.Conv2d(channels, channels, 3, padding=1))
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """x (B, channels_in, H, W), features (B, features) -> (B, channels, H, W)."""
        h = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.film(features)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(self.dropout(functional.silu(self.norm2(h) * (1 + scale) + shift)))
        return self.skip(x) + h


class Attention(nn.Module):
    """Attention of the positions of an image to each other, or to tokens of width `tokens`, added to the image.

    The layers are named to_q, to_k, to_v and to_out.0, which adapters of other libraries look for; in files the last
    one's weights are to_out.weight and to_out.bias. Rombach et al. 2022.
    """

    def __init__(self, channels: int, heads: int, tokens: int = 0) -> None:
        super().__init__()
        self.heads, self.norm = heads, group_norm(channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(tokens or channels, channels, bias=not tokens)
        self.to_v = nn.Linear(tokens or channels, channels, bias=not tokens)
        self.to_out = nn.Sequential(zero(nn.Linear(channels, channels)))
        self.register_state_dict_post_hook(functools.partial(_rename, "to_out.0", "to_out"))
        self.register_load_state_dict_pre_hook(functools.partial(_rename, "to_out", "to_out.0"))

    def forward(self, x: Tensor, tokens: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), tokens (B, M, width) or None -> like x."""
        b, c, h, w = x.shape
        places = self.norm(x).flatten(2).transpose(1, 2)
        source = places if tokens is None else tokens
        q, k, v = (
            part.reshape(b, -1, self.heads, c // self.heads).transpose(1, 2)
            for part in (self.to_q(places), self.to_k(source), self.to_v(source))
        )
        # Written out, since the fused kernel has neither the second derivatives nor the forward mode that traces need.
        weights = torch.softmax(q @ k.transpose(-1, -2) * (c // self.heads) ** -0.5, dim=-1)
        joined = (weights @ v).transpose(1, 2).reshape(b, h * w, c)
        return x + self.to_out(joined).transpose(1, 2).reshape(b, c, h, w)


def _rename(old: str, new: str, module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """A hook of a state dict that renames weight and bias of a layer."""
    for part in ("weight", "bias"):
        name = f"{prefix}{old}.{part}"
        if name in state:
            state[f"{prefix}{new}.{part}"] = state.pop(name)


def level_features(x: Tensor, levels: int) -> Tensor:
    """x (B, C, ...) on [-1, 1] with sin and cos of pi L x/2 and pi L x beside it: (B, 5 C, ...).

    Periods of two levels and of one. Kingma et al. 2021, appendix C, whose n = 7, 8 are these for L = 256.
    """
    angles = [math.pi * levels * x / 2, math.pi * levels * x]
    return torch.cat([x, *(part for angle in angles for part in (angle.sin(), angle.cos()))], dim=1)
