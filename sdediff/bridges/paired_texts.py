"""`PairedTexts`: the two text encoders of Stable Diffusion XL as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sdediff.bridges.text import TransformersText


class PairedTexts(nn.Module):
    """Two text encoders of transformers: texts -> encoder_hidden_states (B, M, W + W'), added_cond_kwargs.

    The tokens are the last hidden states but one of both, side by side; added_cond_kwargs holds text_embeds (B, P), the
    projection of the second, a CLIPTextModelWithProjection, and time_ids (B, 6): height and width before cropping, the
    upper left corner, height and width. size: that of the images, in pixels. Podell et al. 2023, section 2.2.
    """

    def __init__(self, first: TransformersText, second: TransformersText, size: tuple[int, int]) -> None:
        super().__init__()
        self.first, self.second, self.size = first, second, size

    def forward(self, texts: str | Sequence[str]) -> dict[str, Any]:
        """The conditions of one text or several, a row each."""
        tokens, pooled = [], torch.empty(0)
        with torch.no_grad():
            for text in (self.first, self.second):
                output = text.encoded(text.ids(texts), output_hidden_states=True)
                tokens.append(output.hidden_states[-2])
                pooled = output[0]
        height, width = self.size
        row = torch.tensor([[height, width, 0, 0, height, width]]).to(pooled)
        hidden: Tensor = torch.cat(tokens, -1)
        added = {"text_embeds": pooled, "time_ids": row.expand(len(pooled), -1)}
        return {"encoder_hidden_states": hidden, "added_cond_kwargs": added}
