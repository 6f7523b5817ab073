"""A data set's mean and covariance: what whitens the states of a solver and matches the prior of a likelihood."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import real_tensor, whole
from sdediff._utils.errors import InputError


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean (*shape), directions (k, D), their variances (k,), variance `rest` of every other direction.

    D is the number of dimensions of one sample; everything is float64. dims (*shape) is the variance of every
    dimension. Where k = D the covariance is exact.
    """

    mean: Tensor
    dims: Tensor
    directions: Tensor
    variances: Tensor
    rest: float

    def __repr__(self) -> str:
        return f"Statistics(shape {tuple(self.mean.shape)}, std {self.std:.4g}, {len(self.directions)} directions)"

    @functools.cached_property
    def std(self) -> float:
        """The isotropic scale: the root of the mean variance over dimensions."""
        return math.sqrt(self.dims.mean().item())

    @functools.cached_property
    def extent(self) -> tuple[float, float, float]:
        """The least and greatest mean of a dimension, and the greatest standard deviation."""
        least, most = (v.item() for v in self.mean.aminmax())
        return least, most, math.sqrt(self.dims.max().item())

    def covariance(self) -> Tensor:
        """(D, D), float64."""
        d = self.directions
        return d.T @ ((self.variances - self.rest)[:, None] * d) + self.rest * torch.eye(d.shape[1], dtype=d.dtype)

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Statistics:
        """The statistics that `state` gave. Raises KeyError or ValueError on tensors of another kind."""
        # Copies, because memory-mapped tensors are aligned otherwise and their products differ in the last bits.
        mean, dims, directions, variances = (tensors[n].clone() for n in ("mean", "dims", "directions", "variances"))
        found = cls(mean, dims, directions, variances, tensors["rest"].item())
        k, d = found.directions.shape
        if found.dims.shape != found.mean.shape or found.mean.numel() != d or found.variances.shape != (k,):
            raise InputError(f"mean {tuple(found.mean.shape)} and directions {k} x {d} do not fit")
        return found

    def state(self) -> dict[str, Tensor]:
        """The tensors, for a file."""
        rest = torch.tensor(self.rest, dtype=torch.float64)
        return {"mean": self.mean, "dims": self.dims, "directions": self.directions, "variances": self.variances,
                "rest": rest}  # fmt: skip


@torch.inference_mode(mode=False)
def statistics(data: Any, rank: int | None = None) -> Statistics:
    """Mean and covariance of data (N, ...): a tensor, an array, or a DataSet as stored; `rank` directions at most.

    By default all directions up to 1024 dimensions, else 256. Refuses fewer than two samples, values that are not
    finite, and a DataSet with a declared range: a network takes its values mapped, `data.dequantised()`. A
    direction's variance is kept above 1e-6 of the largest one.
    """
    if getattr(data, "range", None) is not None:
        raise InputError(
            f"{data!r}: statistics are those of the values that the network takes: write sd.statistics(data."
            f"{'tensor' if data.levels is None else 'dequantised'}(range=(-1, 1))), with the network's range"
        )
    x = real_tensor("data", getattr(data, "x", data)).detach()
    if rank is not None:
        rank = whole("rank", rank, 1)
    if x.ndim < 2 or len(x) < 2 or not x.numel():
        raise InputError(f"statistics need at least two samples (N, ...), given the shape {tuple(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x.reshape(len(x), -1)).all(dim=1)).nonzero()[0])
        raise InputError(f"row {bad} of the data is not finite: leave it out before measuring statistics")
    flat = x.reshape(len(x), -1)
    mean = flat.mean(dim=0)
    rest, n, d = flat - mean, *flat.shape
    rank = min(rank or (d if d <= 1024 else 256), d)
    _, values, directions = torch.linalg.svd(rest, full_matrices=n < d and rank > n)
    variances = torch.zeros(d, dtype=torch.float64)
    variances[: len(values)] = values**2 / (n - 1)
    floor = 1e-6 * variances[0].item() + 1e-300
    dims = (rest**2).sum(dim=0) / (n - 1)
    kept = variances[:rank].clamp(min=floor)
    left = max(dims.sum().item() - variances[:rank].sum().item(), 0.0) / max(d - rank, 1)
    shape = x.shape[1:]
    return Statistics(
        mean.reshape(shape), dims.clamp(min=floor).reshape(shape), directions[:rank].contiguous(), kept,
        max(left, floor),
    )  # fmt: skip
