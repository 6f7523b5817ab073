"""The clock as a network sees it, and the scale that a variance-exploding state needs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sdediff._utils.errors import InputError

CLOCKS = ("t", "index", "linear", "log")
INPUTS = ("plain", "ve")


class ClockEmbedding(nn.Module):
    """Sinusoids of a clock (B,), then a two-layer perceptron: (B, width).

    kind says how the clock is read: "t" in [0, 1] (times 1000), "index" 0..999 or "linear" (times `scale`),
    "log" for a positive clock over decades (sigma, or a t that goes down to 1e-5).
    Vaswani et al. 2017, section 3.5.
    """

    frequencies: Tensor

    def __init__(self, width: int, kind: str = "t", scale: float = 1.0) -> None:
        super().__init__()
        if kind not in CLOCKS:
            raise InputError(f"clock={kind!r}: write one of {', '.join(CLOCKS)}")
        self.kind, self.scale = kind, scale * {"t": 1000.0, "log": 100.0}.get(kind, 1.0)
        half = torch.arange(width // 2, dtype=torch.float64) / (width // 2)
        self.register_buffer("frequencies", torch.exp(-math.log(1e4) * half).float(), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(width // 2 * 2, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, clock: Tensor) -> Tensor:
        """Features (B, width) of a clock (B,), in the dtype of the weights."""
        reading = torch.log(clock.clamp(min=1e-10)) if self.kind == "log" else clock
        angle = (self.scale * reading)[:, None] * self.frequencies.to(reading)
        features = torch.cat([angle.cos(), angle.sin()], dim=1)
        return self.mlp(features.to(next(self.mlp.parameters()).dtype))


def label_row(label: Tensor | int | None, classes: int, like: Tensor) -> Tensor:
    """Class indices (B,) from one label, one a sample, or None: the extra class `classes`, unconditional."""
    given = torch.as_tensor(classes if label is None else label, device=like.device)
    if given.is_floating_point() or bool(((given < 0) | (given > classes)).any()):
        raise InputError(f"label={label!r}: give integers in [0, {classes}), or None for no condition")
    return given.long().expand(like.shape[0])
