"""A time-conditioned U-Net for images whose sides halve evenly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sdediff._utils.checks import flag, known, number, shown, sizes
from sdediff._utils.errors import InputError, InputTypeError
from sdediff.nets.blocks import Attention, ResBlock, group_norm, level_features, zero
from sdediff.nets.embedding import INPUTS, ClockEmbedding, label_row


def _check_multiples(multiples: Any) -> None:
    if not isinstance(multiples, Sequence) or isinstance(multiples, str | bytes) or not multiples:
        raise InputTypeError(f"multiples={shown(multiples)}: give the widths of the levels, such as (1, 2)")
    for value in multiples:
        sizes(1, 1000, multiples=value)


class UNet(nn.Module):
    """A small U-Net F(x, clock): x (B, C, H, W), clock (B,) -> (B, C, H, W). After Ho et al. 2020, appendix B.

    width: channels at full size, times `multiples` at each halving; blocks: residual blocks a level; attention: heads
    at the lowest level (0: none); clock, clock_scale, embedding: see ClockEmbedding. input="ve": the clock is sigma,
    the state is scaled by 1/sqrt(1 + sigma^2), and the output is the score, -F/sigma (Song et al. 2021, appendix H).
    classes: labels for the keyword `label`, an integer a sample; tokens: the width of the keyword `tokens` (B, M,
    tokens), or (1, M, tokens) for all, which the image attends to; None means no condition. variance: 2C channels, for
    learned variances. levels: the data's levels, whose Fourier features join the input. dropout: in the residual
    blocks. A gain read from the clock adds the state itself to the output.
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
        tokens: int = 0,
        variance: bool = False,
        levels: int = 0,
        embedding: str = "sinusoidal",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not known(input, INPUTS):
            raise InputError(f"input={input!r}: write one of {', '.join(INPUTS)}")
        _check_multiples(multiples)
        sizes(1, channels_in=channels_in, width=width)
        sizes(1, 1000, blocks=blocks)
        sizes(0, attention=attention, classes=classes, tokens=tokens, levels=levels)
        flag("variance", variance)
        if not 0 <= number("dropout", dropout) < 1:
            raise InputError(f"dropout={dropout}: give a share in [0, 1)")
        if (variance or levels) and input == "ve":
            raise InputError('input="ve" gives a score: leave variance and levels out, or write input="plain"')
        self.config: dict[str, Any] = {
            "channels_in": channels_in, "width": width, "multiples": list(multiples), "blocks": blocks,
            "attention": attention, "clock": clock, "clock_scale": clock_scale, "input": input, "classes": classes,
            "tokens": tokens, "variance": variance, "levels": levels, "embedding": embedding, "dropout": dropout,
        }  # fmt: skip
        self.input, self.classes, self.levels, self.channels = input, classes, levels, channels_in
        features = 2 * width
        self.embed = ClockEmbedding(features, clock, clock_scale, embedding)
        self.label = nn.Embedding(classes + 1, features) if classes else None
        self.first = nn.Conv2d(channels_in * (5 if levels else 1), width, 3, padding=1)
        widths = [width * m for m in multiples]
        self._build(widths, blocks, attention, features, dropout)
        self.cross = Attention(widths[-1], attention or 1, tokens) if tokens else None
        self.no_tokens = nn.Parameter(torch.zeros(1, tokens)) if tokens else None
        self.last_norm = group_norm(width)
        self.last = zero(nn.Conv2d(width, channels_in * (2 if variance else 1), 3, padding=1))
        self.gain = zero(nn.Linear(features, channels_in))

    def _build(self, sizes: list[int], blocks: int, attention: int, features: int, dropout: float) -> None:
        self.down, self.up, self.shrink, self.grow = (nn.ModuleList() for _ in range(4))
        width, skips = sizes[0], [sizes[0]]
        for level, size in enumerate(sizes):
            self.down.append(nn.ModuleList())
            for _ in range(blocks):
                self.down[level].append(ResBlock(width, size, features, dropout))  # type: ignore[operator]
                width = size
                skips.append(width)
            if level + 1 < len(sizes):
                self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        self.middle = ResBlock(width, width, features, dropout)
        self.attention = Attention(width, attention) if attention else nn.Identity()
        for level, size in reversed(list(enumerate(sizes))):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(ResBlock(width + skips.pop(), size, features, dropout))
                width = size
            self.up.append(stage)
            if level:
                self.grow.append(nn.Conv2d(width, width, 3, padding=1))

    def null_conditions(self) -> dict[str, Any]:
        """What stands for no condition, by name."""
        rows = {"label": self.classes if self.classes else None, "tokens": self.no_tokens}
        return {name: row for name, row in rows.items() if row is not None}

    def forward(
        self, x: Tensor, clock: Tensor, label: Tensor | int | None = None, tokens: Tensor | None = None
    ) -> Tensor:
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
        given = level_features(state, self.levels) if self.levels else state
        out = self._body(given, functional.silu(features), self._tokens(tokens, x))
        own = self.gain(features)[:, :, None, None] * state
        if out.shape[1] != self.channels:  # the second half is the variance's
            own = functional.pad(own, (0, 0, 0, 0, 0, self.channels))
        return -(out + own) / sigma if self.input == "ve" else out + own

    def _tokens(self, given: Tensor | None, x: Tensor) -> Tensor | None:
        """The tokens to attend to, (B, M, width)."""
        if self.no_tokens is None:
            if given is not None:
                raise InputError("this network was made without tokens: leave tokens out")
            return None
        if given is None:
            return self.no_tokens.expand(len(x), -1, -1)
        if given.ndim == 3 and len(given) == 1:
            given = given.expand(len(x), -1, -1)
        if given.ndim != 3 or given.shape[0] != len(x) or given.shape[2] != self.no_tokens.shape[1]:
            width = self.no_tokens.shape[1]
            raise InputError(f"tokens of shape {tuple(given.shape)}: give ({len(x)}, M, {width}), or None")
        return given

    def _body(self, x: Tensor, features: Tensor, tokens: Tensor | None) -> Tensor:
        h = self.first(x)
        skips = [h]
        for level, stage in enumerate(self.down):
            for block in stage:  # type: ignore[attr-defined]
                h = block(h, features)
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        h = self.attention(self.middle(h, features))
        if self.cross is not None:
            h = self.cross(h, tokens)
        for level, stage in enumerate(self.up):
            for block in stage:  # type: ignore[attr-defined]
                h = block(torch.cat([h, skips.pop()], dim=1), features)
            if level < len(self.grow):
                h = self.grow[level](functional.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.last(functional.silu(self.last_norm(h)))
