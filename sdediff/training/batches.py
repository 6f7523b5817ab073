"""Batches: rows of data in an order that the seed decides, or those of an iterator, cut for each process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import shown
from sdediff._utils.errors import InputTypeError
from sdediff.datasets import DataSet
from sdediff.noise.counter import uniforms
from sdediff.training.draws import ROWS
from sdediff.training.settings import TrainingError

Batch = tuple[Tensor, dict[str, Any]]


class Share(NamedTuple):
    """A process's part of a global batch of `total` samples: x (b, ...), its conditions, the number of its first."""

    x: Tensor
    cond: dict[str, Any]
    first: int
    total: int


class Batches(Protocol):
    """The samples of an update: `take(update, size, rows)` gives rows of its global batch of `size` samples."""

    def take(self, update: int, size: int, rows: range) -> Share: ...


class Rows:
    """Data in memory or on disk, in a new order each epoch; integer levels are dequantised anew in each.

    The order is a function of (seed, epoch), so that a resumed run goes on with the row that comes next.
    """

    def __init__(self, data: Any, cond: dict[str, Any], bounds: tuple[float, float], seed: int) -> None:
        self.data, self.cond, self.bounds, self.seed = data, cond, bounds, seed
        self._orders: dict[int, np.ndarray] = {}

    def take(self, update: int, size: int, rows: range) -> Share:
        n, first = len(self.data), update * size
        places = [divmod(first + row, n) for row in rows]
        index = np.array([self._order(epoch)[place] for epoch, place in places])
        parts = []
        for epoch in dict.fromkeys(epoch for epoch, _ in places):
            parts.append(self._rows(index[[e == epoch for e, _ in places]], epoch))
        chosen = torch.from_numpy(index)
        return Share(torch.cat(parts), {k: v[chosen] for k, v in self.cond.items()}, rows.start, size)

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            if len(self._orders) > 1:
                del self._orders[min(self._orders)]
            keys = uniforms(self.seed, np.arange(len(self.data)), (epoch, 0x5200000 + ROWS), ())
            self._orders[epoch] = np.argsort(keys, kind="stable")
        return self._orders[epoch]

    def _rows(self, index: np.ndarray, epoch: int) -> Tensor:
        if not isinstance(self.data, DataSet):
            return self.data[torch.from_numpy(index)]
        if self.data.levels is None:
            return self.data.tensor(self.bounds, index=index)
        return self.data.dequantised((self.seed + 1000003 * (epoch + 1)) % 2**63, index, self.bounds)


class Stream:
    """Batches from an iterator: x, (x, condition) or a dictionary with "x"; a resumed run passes over those used."""

    def __init__(self, iterator: Iterator[Any], updates: int) -> None:
        self.iterator, self.updates, self.given = iterator, updates, 0
        self._last: Batch | None = None
        self._shape: tuple[int, ...] | None = None

    def take(self, update: int, size: int, rows: range) -> Share:
        while self.given <= update:
            batch = next(self.iterator, None)
            if batch is None:
                raise TrainingError(
                    f"batches gave {self.given} batches, needed are {self.updates}: give more, or updates={self.given}"
                )
            self.given += 1
            self._last = self._checked(batch)
        x, cond = self._last or (torch.empty(0), {})
        share = slice(rows.start * len(x) // size, rows.stop * len(x) // size)
        cut = {k: v[share] if isinstance(v, Tensor) and v.ndim else v for k, v in cond.items()}
        return Share(x[share], cut, share.start, len(x))

    def _checked(self, batch: Any) -> Batch:
        x, cond = as_batch(batch)
        if self._shape not in (None, tuple(x.shape[1:])):
            raise TrainingError(
                f"batch {self.given - 1} has samples of shape {tuple(x.shape[1:])}, those before {self._shape}: give "
                "one shape, by resizing or by sorting them"
            )
        self._shape = tuple(x.shape[1:])
        check_rows(x, f"batch {self.given - 1}")
        return x, cond


def as_batch(batch: Any) -> Batch:
    """x and conditions of a batch: a tensor, (x, condition), where a tensor is the label, or a dictionary with "x"."""
    cond: Any = {}
    if isinstance(batch, dict) and "x" in batch:
        batch, cond = batch["x"], {name: value for name, value in batch.items() if name != "x"}
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        batch, cond = batch
        cond = cond if isinstance(cond, dict) else {"label": cond}
    if not isinstance(batch, Tensor) or not batch.is_floating_point() or batch.ndim < 2:
        raise InputTypeError(
            f'a batch is {shown(batch)}: give float samples (B, ...), (x, condition), or a dictionary with "x"'
        )
    return batch, cond


def check_rows(x: Tensor, what: str) -> None:
    """TrainingError naming the first row that is not finite."""
    bad = (~torch.isfinite(x).flatten(1).all(1)).nonzero().flatten().tolist()
    if bad:
        raise TrainingError(f"{what}: row {bad[0]} holds NaN or Inf ({len(bad)} of {len(x)} rows): leave it out")


def batches_of(data: Any, bounds: tuple[float, float], seed: int, updates: int, labels: bool) -> Batches:
    """What `train` was given as its batches. labels: whether a DataSet's labels are the condition `label`."""
    if isinstance(data, Iterator):
        return Stream(data, updates)
    if isinstance(data, DataSet):
        if data.bad_rows:
            raise TrainingError(f"{data.name}: row {data.bad_rows[0]} holds NaN or Inf: leave it out")
        cond = {} if data.labels is None or not labels else {"label": torch.from_numpy(np.array(data.labels)).flatten()}
        return Rows(data, cond, bounds, seed)
    if not isinstance(data, Tensor | dict | tuple | list) or (isinstance(data, list) and len(data) != 2):
        raise InputTypeError(
            f"batches={shown(data)}: give an iterator of tensors (B, ...), such as iter(batches), all samples as a "
            "tensor (N, ...) or (x, labels), or a DataSet"
        )
    x, cond = as_batch(data)
    check_rows(x, "data")
    wrong = [name for name, value in cond.items() if not isinstance(value, Tensor) or len(value) != len(x)]
    if wrong:
        raise InputTypeError(f"condition {wrong[0]!r} needs a tensor with one row for each of the {len(x)} samples")
    return Rows(x, cond, bounds, seed)


def dequantised(levels: Tensor, n: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of x = 2 (k + u)/n - 1 with new u uniform in [0, 1) and a new order in each epoch.

    levels: integers k in [0, n), (N, ...). Yields float32 (batch, ...); an incomplete last batch is left out.
    """
    if len(levels) < batch:
        raise TrainingError(f"batch={batch} is more than the {len(levels)} samples: make it smaller")
    while True:
        order = torch.randperm(len(levels), generator=generator)
        for rows in order[: len(order) // batch * batch].split(batch):
            k = levels[rows].float()
            yield 2 * (k + torch.rand(k.shape, generator=generator)) / n - 1
