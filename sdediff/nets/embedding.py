"""The embedding of a network's clock, and the embedding index of a label."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sdediff._utils.checks import known, number
from sdediff._utils.errors import InputError

CLOCKS = ("t", "index", "linear", "log")
INPUTS = ("plain", "ve")
FEATURES = ("sinusoidal", "fourier")


class ClockEmbedding(nn.Module):
    """Features of a clock (B,), then a two-layer perceptron: (B, width).

    kind: how the clock is scaled: "t" in [0, 1] (times 1000), "index" 0..999 or "linear" (times `scale`),
    "log" for a positive clock over decades (sigma, or a t that goes down to 1e-5). features: "sinusoidal" (Vaswani et
    al. 2017, section 3.5) or "fourier", random frequencies for a clock of order 1 (Song et al. 2021, appendix C).
    """

    frequencies: Tensor

    def __init__(self, width: int, kind: str = "t", scale: float = 1.0, features: str = "sinusoidal") -> None:
        super().__init__()
        if not known(kind, CLOCKS):
            raise InputError(f"clock={kind!r}: write one of {', '.join(CLOCKS)}")
        if not known(features, FEATURES):
            raise InputError(f"embedding={features!r}: write one of {', '.join(FEATURES)}")
        scale, fourier = number("clock_scale", scale), features == "fourier"
        self.kind, self.scale = kind, scale * (1.0 if fourier else {"t": 1000.0, "log": 100.0}.get(kind, 1.0))
        if fourier:
            frequencies = 2 * math.pi * 16 * torch.randn(width // 2)
        else:
            half = torch.arange(width // 2, dtype=torch.float64) / (width // 2)
            frequencies = torch.exp(-math.log(1e4) * half).float()
        self.register_buffer("frequencies", frequencies, persistent=fourier)
        self.mlp = nn.Sequential(nn.Linear(width // 2 * 2, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, clock: Tensor) -> Tensor:
        """Features (B, width) of a clock (B,), in the dtype of the weights."""
        reading = torch.log(clock.clamp(min=1e-10)) if self.kind == "log" else clock
        angle = (self.scale * reading)[:, None] * self.frequencies.to(reading)
        features = torch.cat([angle.cos(), angle.sin()], dim=1)
        return self.mlp(features.to(next(self.mlp.parameters()).dtype))


def label_row(label: Tensor | int | None, classes: int, like: Tensor) -> Tensor:
    """Class indices (B,) from one label, one label a sample, or None for the unconditional class, index `classes`."""
    refused = f"label={label!r}: give integers in [0, {classes}), or None for no condition"
    try:
        indices = torch.as_tensor(classes if label is None else label, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(refused) from error
    if indices.is_floating_point() or bool(((indices < 0) | (indices > classes)).any()):
        raise InputError(refused)
    return indices.long().expand(like.shape[0])
