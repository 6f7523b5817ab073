"""A small time-conditioned U-Net for images whose sides halve evenly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sdediff._utils.errors import InputError
from sdediff.nets.embedding import INPUTS, ClockEmbedding, label_row


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)


def _zero(module: nn.Conv2d | nn.Linear) -> Any:
    """A layer that starts as zero, so that a residual block starts as the identity."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


class ResBlock(nn.Module):
    """x + conv(SiLU(FiLM(norm(conv(SiLU(norm(x))))))), FiLM's shift and scale read from the clock."""

    def __init__(self, channels_in: int, channels: int, features: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(channels_in), nn.Conv2d(channels_in, channels, 3, padding=1)
        self.film = _zero(nn.Linear(features, 2 * channels))
        self.norm2, self.conv2 = _norm(channels), _zero(nn.Conv2d(channels, channels, 3, padding=1))
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """x (B, channels_in, H, W), features (B, features) -> (B, channels, H, W)."""
        h = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.film(features)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(functional.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class Attention(nn.Module):
    """Self-attention over the positions of an image, added to it."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = _norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> the same shape."""
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        # Written out, since the fused kernel has neither the second derivatives nor the forward mode that traces need.
        weights = torch.softmax(q @ k.transpose(-1, -2) * (c // self.heads) ** -0.5, dim=-1)
        return x + self.out((weights @ v).transpose(-1, -2).reshape(b, c, h, w))


class UNet(nn.Module):
    """A small U-Net F(x, clock): x (B, C, H, W), clock (B,) -> (B, C, H, W). After Ho et al. 2020, appendix B.

    width: channels at full size, times `multiples` at each halving; blocks: residual blocks a level;
    attention: heads at the lowest level (0: none); clock, clock_scale: see ClockEmbedding.
    input="ve": the clock is sigma, the state is scaled by 1/sqrt(1 + sigma^2), and the output is the score,
    -F/sigma (Song et al. 2021, appendix H). classes: number of labels for the keyword `label`, an integer a
    sample, None meaning no condition. A gain read from the clock adds the state itself to the output.
    """

    def __init__(
        self,
        channels_in: int = 1,
        width: int = 32,
        multiples: Sequence[int] = (1, 2),
        blocks: int = 2,
        attention: int = 4,
        clock: str = "t",
        clock_scale: float = 1.0,
        input: str = "plain",
        classes: int = 0,
    ) -> None:
        super().__init__()
        if input not in INPUTS:
            raise InputError(f"input={input!r}: write one of {', '.join(INPUTS)}")
        self.config: dict[str, Any] = {
            "channels_in": channels_in, "width": width, "multiples": list(multiples), "blocks": blocks,
            "attention": attention, "clock": clock, "clock_scale": clock_scale, "input": input,
            "classes": classes,
        }  # fmt: skip
        self.input, self.classes = input, classes
        features = 2 * width
        self.embed = ClockEmbedding(features, clock, clock_scale)
        self.label = nn.Embedding(classes + 1, features) if classes else None
        self.first = nn.Conv2d(channels_in, width, 3, padding=1)
        sizes = [width * m for m in multiples]
        self._build(sizes, blocks, attention, features)
        self.last_norm, self.last = _norm(width), _zero(nn.Conv2d(width, channels_in, 3, padding=1))
        self.gain = _zero(nn.Linear(features, channels_in))

    def _build(self, sizes: list[int], blocks: int, attention: int, features: int) -> None:
        self.down, self.up, self.shrink, self.grow = (nn.ModuleList() for _ in range(4))
        width, skips = sizes[0], [sizes[0]]
        for level, size in enumerate(sizes):
            self.down.append(nn.ModuleList())
            for _ in range(blocks):
                self.down[level].append(ResBlock(width, size, features))  # type: ignore[operator]
                width = size
                skips.append(width)
            if level + 1 < len(sizes):
                self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        self.middle = ResBlock(width, width, features)
        self.attention = Attention(width, attention) if attention else nn.Identity()
        for level, size in reversed(list(enumerate(sizes))):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(ResBlock(width + skips.pop(), size, features))
                width = size
            self.up.append(stage)
            if level:
                self.grow.append(nn.Conv2d(width, width, 3, padding=1))

    def null_conditions(self) -> dict[str, Any]:
        """What stands for no condition, by name."""
        return {"label": self.classes} if self.classes else {}

    def forward(self, x: Tensor, clock: Tensor, label: Tensor | int | None = None) -> Tensor:
        """F at states x (B, C, H, W) and clock (B,); with input="ve" the score. Shaped like x."""
        divisor = 2 ** (len(self.down) - 1)
        if x.ndim != 4 or x.shape[2] % divisor or x.shape[3] % divisor:
            raise InputError(f"this U-Net takes (B, C, H, W) with sides divisible by {divisor}, given {tuple(x.shape)}")
        sigma = clock.to(x).reshape(-1, 1, 1, 1)
        state = x / torch.sqrt(1 + sigma**2) if self.input == "ve" else x
        features = self.embed(clock)
        if self.label is not None:
            features = features + self.label(label_row(label, self.classes, x))
        elif label is not None:
            raise InputError("this network was made without classes: leave label out")
        out = self._body(state, functional.silu(features)) + self.gain(features)[:, :, None, None] * state
        return -out / sigma if self.input == "ve" else out

    def _body(self, x: Tensor, features: Tensor) -> Tensor:
        h = self.first(x)
        skips = [h]
        for level, stage in enumerate(self.down):
            for block in stage:  # type: ignore[attr-defined]
                h = block(h, features)
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        h = self.attention(self.middle(h, features))
        for level, stage in enumerate(self.up):
            for block in stage:  # type: ignore[attr-defined]
                h = block(torch.cat([h, skips.pop()], dim=1), features)
            if level < len(self.grow):
                h = self.grow[level](functional.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.last(functional.silu(self.last_norm(h)))
