"""A residual perceptron for tables and points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sdediff._utils.checks import flag, known, sizes
from sdediff._utils.errors import InputError
from sdediff.nets.embedding import INPUTS, ClockEmbedding, label_row


class Residual(nn.Module):
    """x + linear(SiLU(FiLM(norm(linear(x))))), FiLM read from the clock."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.norm, self.first = nn.LayerNorm(width), nn.Linear(width, width)
        self.film, self.last = nn.Linear(features, 2 * width), nn.Linear(width, width)
        for layer in (self.film, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """x (B, width), features (B, features) -> (B, width)."""
        scale, shift = self.film(features).chunk(2, dim=1)
        return x + self.last(functional.silu(self.first(self.norm(x)) * (1 + scale) + shift))


class MLP(nn.Module):
    """A residual perceptron F(x, clock): x (B, D) or any (B, ...) of D numbers, clock (B,) -> shaped like x.

    dim: D; width, blocks: its size; clock, clock_scale, input, classes, variance and embedding as in UNet.
    """

    def __init__(
        self,
        dim: int,
        width: int = 128,
        blocks: int = 3,
        clock: str = "t",
        clock_scale: float = 1.0,
        input: str = "plain",
        classes: int = 0,
        variance: bool = False,
        embedding: str = "sinusoidal",
    ) -> None:
        super().__init__()
        if not known(input, INPUTS):
            raise InputError(f"input={input!r}: write one of {', '.join(INPUTS)}")
        flag("variance", variance)
        if variance and input == "ve":
            raise InputError('input="ve" gives a score: leave variance out, or write input="plain"')
        sizes(1, dim=dim, width=width)
        sizes(1, 1000, blocks=blocks)
        sizes(0, classes=classes)
        self.config: dict[str, Any] = {
            "dim": dim, "width": width, "blocks": blocks, "clock": clock, "clock_scale": clock_scale,
            "input": input, "classes": classes, "variance": variance, "embedding": embedding,
        }  # fmt: skip
        self.input, self.classes = input, classes
        self.embed = ClockEmbedding(width, clock, clock_scale, embedding)
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.first = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(Residual(width, width) for _ in range(blocks))
        self.last, self.gain = nn.Linear(width, dim * (2 if variance else 1)), nn.Linear(width, 1)
        for layer in (self.last, self.gain):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def null_conditions(self) -> dict[str, Any]:
        """What stands for no condition, by name."""
        return {"label": self.classes} if self.classes else {}

    def forward(self, x: Tensor, clock: Tensor, label: Tensor | int | None = None) -> Tensor:
        """F at states x (B, ...) and clock (B,); with input="ve" the score. Shaped like x."""
        flat = x.reshape(x.shape[0], -1)
        sigma = clock.to(x).reshape(-1, 1)
        state = flat / torch.sqrt(1 + sigma**2) if self.input == "ve" else flat
        features = self.embed(clock)
        if self.label is not None:
            features = features + self.label(label_row(label, self.classes, x))
        elif label is not None:
            raise InputError("this network was made without classes: leave label out")
        h = self.first(state)
        for block in self.blocks:
            h = block(h, functional.silu(features))
        out, own = self.last(functional.silu(h)), self.gain(features) * state
        if out.shape[1] != own.shape[1]:  # the second half is the variance's
            return (out + functional.pad(own, (0, own.shape[1]))).reshape(len(x), 2 * x.shape[1], *x.shape[2:])
        return (-(out + own) / sigma if self.input == "ve" else out + own).reshape(x.shape)
