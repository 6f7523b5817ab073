"""`TransformersText`: texts as a condition, by a tokenizer and an encoder of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sdediff._utils.checks import shown
from sdediff._utils.errors import InputTypeError, MissingPackageError
from sdediff.bridges.errors import BridgeError

_NO_LIMIT = 1_000_000  # tokenizers without one say 1e30


def transformers() -> Any:
    """The package transformers. MissingPackageError where it is not installed."""
    try:
        import transformers as package
    except ImportError as error:
        raise MissingPackageError("encoders of texts need transformers: pip install 'sdediff[bridges]'") from error
    return package


class TransformersText(nn.Module):
    """A tokenizer and a text encoder of transformers: texts -> {name: last hidden state (B, M, width)}.

    name: the network's keyword, encoder_hidden_states for those of diffusers, tokens for `sd.nets.UNet`. Texts are
    filled up to the encoder's length M; one that needs more tokens is refused. limit: M, by default what the tokenizer
    and the encoder say. where: the folder, for messages.
    """

    def __init__(
        self,
        tokenizer: Any,
        encoder: nn.Module,
        name: str = "encoder_hidden_states",
        limit: int | None = None,
        where: str = "the text encoder",
    ) -> None:
        super().__init__()
        self.tokenizer, self.encoder, self.name, self.where = tokenizer, encoder, name, where
        config: Any = getattr(encoder, "config", None)
        ends = [getattr(tokenizer, "model_max_length", None), getattr(config, "max_position_embeddings", None), limit]
        given = [int(end) for end in ends if end is not None and 0 < end < _NO_LIMIT]
        if not given:
            raise BridgeError(f"{where}: neither the tokenizer nor the encoder says its length: write limit=77")
        self.limit = min(given)
        # Stable Diffusion's CLIP reads the filling too, unless its configuration says otherwise.
        clip = "clip" in str(getattr(config, "model_type", ""))
        self.masked = bool(getattr(config, "use_attention_mask", not clip))

    def forward(self, texts: str | Sequence[str]) -> dict[str, Tensor]:
        """The condition of one text or several, a row each."""
        with torch.no_grad():
            return {self.name: self.hidden(self.ids(texts))}

    def ids(self, texts: str | Sequence[str]) -> Tensor:
        """The numbers of the tokens of one text or several, and where they are no filling: (B, 2, M), integers."""
        rows = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, list | tuple) else []
        if not rows or not all(isinstance(row, str) for row in rows):
            raise InputTypeError(f"texts={shown(texts)}: give a text, or a list of texts")
        for row in rows:
            needed = len(self.tokenizer(row, verbose=False)["input_ids"])
            if needed > self.limit:
                raise BridgeError(
                    f"{self.where}: {row[:60]!r}... is {needed} tokens long, the encoder takes {self.limit} "
                    "(tokenizer_config.json, model_max_length): shorten the prompt"
                )
        tokens = self.tokenizer(rows, padding="max_length", max_length=self.limit, return_tensors="pt")
        return torch.stack([tokens["input_ids"], tokens["attention_mask"]], 1)

    def hidden(self, ids: Tensor) -> Tensor:
        """The last hidden state (B, M, width) of tokens (B, 2, M), with gradients where they are wanted."""
        state: Tensor = self.encoded(ids)[0]
        return state

    def encoded(self, ids: Tensor, **options: Any) -> Any:
        """All that the encoder gives for tokens (B, 2, M), under options of its own."""
        numbers, mask = ids.to(next(self.encoder.parameters()).device).unbind(1)
        return self.encoder(numbers, attention_mask=mask if self.masked else None, **options)
