"""A mixture in one dimension with two classes, its models under conditions, and its exact classifier."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import sdediff as sd

F64 = torch.float64
WEIGHTS, MEANS, STDS = (0.3, 0.4, 0.3), (-1.5, 0.5, 1.5), (0.3, 0.4, 0.2)
# alpha = 0.8, sigma = 0.6.
PROCESS = sd.VP()
LEVEL = PROCESS.t_of_lam([math.log(0.8 / 0.6)]).item()


def parts(label: int) -> Any:
    """The mixture under class 0 (two components), class 1 (the third), or none (2)."""
    chosen = {0: (0, 1), 1: (2,), 2: (0, 1, 2)}[label]
    weights = torch.tensor([WEIGHTS[k] for k in chosen], dtype=F64)
    means = torch.tensor([[MEANS[k]] for k in chosen], dtype=F64)
    stds = torch.tensor([STDS[k] for k in chosen], dtype=F64)
    return sd.targets.mixture(means, stds, weights / weights.sum())


class Labelled(torch.nn.Module):
    """The exact network of the class of every row: label (B,), or one for all; 2 is no class."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = [parts(label).model(PROCESS).net for label in range(3)]
        self.rows: list[int] = []

    def null_conditions(self) -> dict[str, int]:
        return {"label": 2}

    def forward(self, x: Tensor, clock: Tensor, label: Any = 2) -> Tensor:
        self.rows.append(len(x))
        label = torch.as_tensor(label).expand(len(x))
        outputs = torch.stack([net(x, clock) for net in self.nets])
        return outputs[label, torch.arange(len(x))]


def labelled() -> sd.ScoreModel:
    return sd.ScoreModel(Labelled(), PROCESS, predicts="v", time="t")


def logits(x: Tensor, t: Any) -> Tensor:
    """log p(class, x_t), so logits of p(class | x_t)."""
    shares = math.log(0.7), math.log(0.3)
    return torch.stack([shares[k] + parts(k).log_prob(x, PROCESS, t.time) for k in (0, 1)], 1)


def at_level(x: float = 0.7, batch: int = 1) -> Tensor:
    return torch.full((batch, 1), x, dtype=F64)
