"""Steps in coordinates with a scale of their own: their coefficients, and how outputs and states are read in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff.model.bound import BoundModel
from sdediff.model.data_statistics import Axes
from sdediff.model.prediction import Prediction


def tensor(values: np.ndarray, model: BoundModel) -> Tensor:
    """An array as a tensor of the states' kind."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device=model.device, dtype=model.dtype)


class Columns(NamedTuple):
    """Coefficients of all steps in C coordinates.

    on_x, added: (steps, C). on_outputs: (steps, J, C), the newest first. on_eps, on_x0: an output's, (levels, C).
    """

    on_x: Tensor
    on_outputs: Tensor
    added: Tensor
    on_eps: Tensor
    on_x0: Tensor


class Scales:
    """The scales of C coordinates, and fewer at which coefficients are computed for all of them.

    nodes: (K,). Coefficients of the whitened basis are smooth in log(scale), with the nearest singularity pi/2 away
    from the real numbers, so Chebyshev's polynomials through K values are as exact as the states' type. The
    coordinates beside principal directions share one scale.
    """

    def __init__(self, axes: Axes, model: BoundModel) -> None:
        self.scale, self.nodes, self._model = axes.scale, axes.scale, model
        self._to: np.ndarray | None = None
        self._spread: Tensor | None = None
        d = axes.directions
        if d is not None:
            if len(d) < d.shape[1]:
                self.nodes = axes.scale[: len(d) + 1]
                counts = [1] * len(d) + [d.shape[1]]
                self._spread = tensor(np.repeat(np.eye(len(counts)), counts, axis=1), model)
            return
        places = np.log(self.scale)
        middle, half = (places.max() + places.min()) / 2, max((places.max() - places.min()) / 2, 1e-9)
        accuracy = 1e-8 if model.dtype is torch.float32 else 1e-16
        count = 2 + math.ceil(-math.log(accuracy) / math.asinh(math.pi / 2 / half))
        if count < len(self.scale) / 2:
            angles = (np.arange(count) + 0.5) * (math.pi / count)
            self.nodes = np.exp(middle + half * np.cos(angles))
            # Values at the nodes -> coefficients of Chebyshev's polynomials -> values at every scale.
            self._to = np.where(np.arange(count), 2, 1) / count * np.cos(angles[:, None] * np.arange(count))
            self._spread = tensor(_chebyshev((places - middle) / half, count), model)

    def spread(self, values: np.ndarray) -> Tensor:
        """Values (..., K) at the nodes as a tensor (..., C)."""
        values = values if self._to is None else values @ self._to
        narrow = tensor(values, self._model)
        return narrow if self._spread is None else narrow @ self._spread


def _chebyshev(z: np.ndarray, count: int) -> np.ndarray:
    """T_0 to T_(count - 1) at z (C,), (count, C)."""
    rows = np.empty((count, len(z)))
    rows[0], rows[1] = 1.0, z
    for k in range(2, count):
        np.multiply(rows[k - 1], 2 * z, out=rows[k])
        rows[k] -= rows[k - 2]
    return rows


def along(prediction: Prediction, axes: Axes, weights: tuple[Tensor, Tensor]) -> tuple[float, Tensor]:
    """An output in the coordinates of `axes`, with a weight of eps and of x0 for each of them: (1, (B, C))."""
    on_eps, on_x0 = weights
    return 1.0, (axes.split(prediction.eps) * on_eps).addcmul_(axes.split(prediction.x0), on_x0)


def combined(
    x: Tensor,
    axes: Axes,
    on_x: Tensor,
    on_outputs: Sequence[Tensor],
    added: Tensor,
    past: Sequence[tuple[float, Tensor]],
) -> Tensor:
    """x after a step in the coordinates of `axes`."""
    y = torch.addcmul(added, axes.split(x), on_x)
    for weight, (_, output) in zip(on_outputs, past, strict=False):
        y.addcmul_(output, weight)
    return axes.join(y, x.shape)
