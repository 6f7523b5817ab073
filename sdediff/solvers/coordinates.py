"""Steps in which every dimension, or every principal direction, has coefficients of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff.model.bound import BoundModel
from sdediff.model.prediction import Prediction

# An output P of one level: a factor, the tensor that it multiplies, and what else a later step needs of it.
Output = tuple[float, Tensor] | tuple[float, Tensor, Tensor]


def tensor(values: np.ndarray, model: BoundModel) -> Tensor:
    """An array as a tensor of the states' kind."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device=model.device, dtype=model.dtype)


class ByDimension(NamedTuple):
    """One step whose coefficients differ from dimension to dimension: x_s = on_x x + sum_j w_j P_j + added.

    An output is P = on_x0 x0 + ratio on_eps eps. All tensors are shaped like one state; on_x0 is None for 1.
    """

    on_x: Tensor
    on_outputs: Sequence[Tensor]
    added: Tensor
    on_eps: Tensor
    ratio: float = 1.0
    on_x0: Tensor | None = None

    def output(self, prediction: Prediction, x: Tensor) -> Output:
        """P at the step's start."""
        (on_eps, eps), (on_x0, x0) = prediction.factored("eps"), prediction.factored("x0")
        if self.on_x0 is None and on_x0:
            return on_x0, torch.addcmul(x0, eps, self.on_eps, value=self.ratio * on_eps / on_x0)
        scaled = x0 * on_x0 if self.on_x0 is None else (x0 * self.on_x0).mul_(on_x0)
        return 1.0, scaled.addcmul_(eps, self.on_eps, value=self.ratio * on_eps)

    def combined(self, x: Tensor, past: Sequence[Output]) -> Tensor:
        """x after the step."""
        y = torch.addcmul(self.added, x, self.on_x)
        for weight, (factor, output, *_) in zip(self.on_outputs, past, strict=False):
            y.addcmul_(output, weight, value=factor)
        return y


class ByDirection(NamedTuple):
    """One step whose coefficients differ along k directions: numbers for all of the state, and a correction there.

    An output is P = x0 + on_eps eps. directions: (k, D), orthonormal. added: one state. corrections: (3 J, k), what
    the projections of x, P and eps at the last J levels, the newest first, add along the directions.
    """

    on_x: float
    on_outputs: Sequence[float]
    added: Tensor
    on_eps: float
    corrections: Tensor
    directions: Tensor

    def output(self, prediction: Prediction, x: Tensor) -> Output:
        """P at the step's start, with the projections of x, P and eps, (B, 3, k)."""
        output = prediction.mix(x0=1.0, eps=self.on_eps)
        return 1.0, output, torch.stack([x, output, prediction.eps], 1).flatten(2) @ self.directions.T

    def combined(self, x: Tensor, past: Sequence[Output]) -> Tensor:
        """x after the step."""
        y, rows = torch.add(self.added, x, alpha=self.on_x), []
        for weight, (factor, output, *more) in zip(self.on_outputs, past, strict=False):
            y.add_(output, alpha=weight * factor)
            rows += more
        along = torch.linalg.vecdot(torch.cat(rows, 1), self.corrections, dim=1)
        return torch.addmm(y.flatten(1), along, self.directions).reshape(x.shape)
