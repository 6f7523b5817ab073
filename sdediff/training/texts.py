"""A network and the encoder of its texts trained together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sdediff._utils.checks import shown
from sdediff._utils.errors import InputError, InputTypeError
from sdediff.bridges import TransformersText
from sdediff.model.null_conditions import null_rows
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.training.loop import train
from sdediff.training.settings import TrainingLog, TrainingSettings

# In the place of a dropped text's tokens, where the network has a row of its own for no condition.
_DROPPED = -1


class TextConditioned(nn.Module):
    """A network and the encoder of its texts as one: (x, clock, ids) -> output, with ids (B, 2, M) of the encoder.

    Dropped rows of ids become the network's own row for no condition, or where it has none the empty text.
    """

    empty: Tensor

    def __init__(self, net: nn.Module, text: TransformersText) -> None:
        super().__init__()
        self.net, self.text = net, text
        self.register_buffer("empty", text.ids("")[0])

    def null_conditions(self) -> dict[str, Any]:
        """What stands for no condition, by name."""
        own = null_rows(self.net)
        row = torch.full_like(self.empty, _DROPPED) if own.pop(self.text.name, None) is not None else self.empty
        return {**own, "ids": row}

    def forward(self, x: Tensor, clock: Tensor, ids: Tensor, **cond: Any) -> Tensor:
        """The network's output for states x (B, ...) under texts."""
        dropped = ids[:, :1, :1] < 0
        hidden = self.text.hidden(torch.where(dropped, self.empty, ids))
        null = null_rows(self.net).get(self.text.name)
        if null is not None:
            hidden = torch.where(dropped, torch.as_tensor(null).to(hidden), hidden)
        output: Tensor = self.net(x, clock, **{self.text.name: hidden}, **cond)
        return output


def train_with_texts(
    model: ScoreModel, batches: Any, settings: TrainingSettings | None = None, objective: Any = None, **options: Any
) -> TrainingLog:
    """Fits model.net and the encoder of model.text_encoder together, in place, and leaves both in eval mode.

    batches: {"x": x (N, ...), "texts": N texts}, with further conditions (N, ...) of the network by name. objective and
    options: as in `sd.train`, without out: save the model afterwards. Rombach et al. 2022, eq. 3, which optimises
    encoder and network jointly. Raises InputError: texts that are too long, or not one a sample.
    """
    model = check_model(model)
    text, net = model.text_encoder, model.net
    if not isinstance(text, TransformersText) or not isinstance(net, nn.Module):
        raise InputTypeError(f"text_encoder={shown(text)}: give the model a TransformersText, and a network to train")
    if not isinstance(batches, dict) or not {"x", "texts"} <= batches.keys():
        raise InputTypeError(f'batches={shown(batches)}: give {{"x": samples (N, ...), "texts": a list of N texts}}')
    if options.get("out") is not None:
        raise InputError("out= keeps no texts: leave it out, and write sd.save(model, folder) after training")
    texts = list(batches["texts"])
    if len(texts) != len(batches["x"]):
        raise InputError(f"{len(texts)} texts for {len(batches['x'])} samples: give one a sample")
    kinds = list(dict.fromkeys(texts))
    rows = text.ids(kinds)[torch.tensor([kinds.index(one) for one in texts])]
    joint = TextConditioned(net, text)
    text.encoder.requires_grad_(True)
    if not any(weight.requires_grad for weight in net.parameters()):
        net.requires_grad_(True)
    data = {name: value for name, value in batches.items() if name != "texts"} | {"ids": rows}
    log = train(model._with(net=joint, text_encoder=None), data, settings, objective, **options)
    text.encoder.requires_grad_(False)
    return TrainingLog(log.losses, log.seconds, model, log.first, log.checks, log.peak_memory)
