"""A classifier of noised images: the first half of the U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from sdediff._utils.errors import InputError
from sdediff.nets.blocks import Attention, ResBlock, group_norm
from sdediff.nets.embedding import ClockEmbedding


class Classifier(nn.Module):
    """Logits (B, classes) of the class of a noised image x (B, C, H, W) at a clock (B,). Dhariwal and Nichol 2021.

    classes: their number; the other arguments are those of UNet. Its gradient in x guides samples.
    """

    def __init__(
        self,
        classes: int,
        channels_in: int = 1,
        width: int = 32,
        multiples: Sequence[int] = (1, 2),
        blocks: int = 1,
        attention: int = 4,
        clock: str = "log",
        clock_scale: float = 1.0,
        embedding: str = "sinusoidal",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise InputError(f"classes={classes}: a classifier tells at least two apart")
        self.config: dict[str, Any] = {
            "classes": classes, "channels_in": channels_in, "width": width, "multiples": list(multiples),
            "blocks": blocks, "attention": attention, "clock": clock, "clock_scale": clock_scale,
            "embedding": embedding, "dropout": dropout,
        }  # fmt: skip
        features, size = 2 * width, width
        self.embed = ClockEmbedding(features, clock, clock_scale, embedding)
        self.first = nn.Conv2d(channels_in, width, 3, padding=1)
        self.blocks, self.shrink = nn.ModuleList(), nn.ModuleList()
        for level, multiple in enumerate(multiples):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(ResBlock(size, width * multiple, features, dropout))
                size = width * multiple
            self.blocks.append(stage)
            if level + 1 < len(multiples):
                self.shrink.append(nn.Conv2d(size, size, 3, stride=2, padding=1))
        self.attention = Attention(size, attention) if attention else nn.Identity()
        self.last_norm, self.last = group_norm(size), nn.Linear(size, classes)

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        """Logits (B, classes) at states x (B, C, H, W) and clock (B,)."""
        divisor = 2 ** len(self.shrink)
        if x.ndim != 4 or x.shape[2] % divisor or x.shape[3] % divisor:
            raise InputError(
                f"this classifier takes (B, C, H, W), sides divisible by {divisor}, given {tuple(x.shape)}"
            )
        features, h = functional.silu(self.embed(clock)), self.first(x)
        for level, stage in enumerate(self.blocks):
            for block in stage:  # type: ignore[attr-defined]
                h = block(h, features)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        h = functional.silu(self.last_norm(self.attention(h)))
        return self.last(h.mean((2, 3)))
