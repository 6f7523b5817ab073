"""The values of a shard: micro-batch by micro-batch, bad rows left out, several dequantisations joined."""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sdediff.datasets import DataSet
from sdediff.likelihood.job.errors import JobError
from sdediff.likelihood.job.inputs import Range, states
from sdediff.likelihood.units import bits_per_dim
from sdediff.model import ScoreModel

if TYPE_CHECKING:
    from sdediff.likelihood import Likelihood

BAD_ROW = "bad row"
# What the job itself gives the estimator.
_OWN = ("model", "x", "seed", "index", "micro_batch", "dtype", "device", "progress")
# What the estimator reports of all samples at once.
_FACTS = ("dims", "t0", "end", "method", "prior", "scale")
_COLUMNS = ("index", "log_prob", "std_error", "bits_per_dim", "status", "calls", "latent_norm", "solver_error")
_DRAWN = ("dequantisation_error", "tightening")
_NONE = {"status": BAD_ROW, "calls": 0}


def estimator_settings(options: dict[str, Any]) -> dict[str, Any]:
    """The estimator's options with its defaults filled in. JobError: an option that it does not take."""
    from sdediff.likelihood import log_likelihood
    from sdediff.likelihood.settings import DEFAULTS, settled
    from sdediff.names import nearest

    known = {k: v.default for k, v in inspect.signature(log_likelihood).parameters.items() if k not in _OWN}
    for key in options:
        if key not in known:
            raise JobError(nearest(key, known, "option of log_likelihood"))
    every = {**known, **options}
    by_method = {key: every[key] for key in DEFAULTS["two_pass"]}
    return {**every, **settled(every["method"], every["preset"], by_method)}


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores rows of a data set; `alive` is called after every micro-batch."""

    model: ScoreModel
    data: DataSet
    bounds: Range
    seed: int
    draws: int
    dtype: torch.dtype
    device: torch.device
    options: dict[str, Any]

    def shard(
        self, rows: range, micro_batch: int, alive: Callable[[], None]
    ) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        """The columns of a shard, a value a row, and what holds for all of its rows."""
        began, bad = time.perf_counter(), set(self.data.bad_rows)
        columns: dict[str, list[Any]] = {name: [] for name in column_names(self.draws)}
        facts: dict[str, Any] = {}
        for start in range(rows.start, rows.stop, micro_batch):
            part = range(start, min(start + micro_batch, rows.stop))
            good = [row for row in part if row not in bad]
            values, facts = self._micro_batch(good, micro_batch) if good else ({}, facts)
            place = {row: n for n, row in enumerate(good)}
            for row in part:
                for name, column in columns.items():
                    known = row in place and name in values
                    column.append(values[name][place[row]] if known else row if name == "index" else _NONE.get(name))
            alive()
        return columns, {**facts, "seconds": time.perf_counter() - began}

    def _micro_batch(self, rows: Sequence[int], size: int) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        from sdediff.likelihood import log_likelihood

        results = []
        for draw in range(self.draws):
            seed = draw_seed(self.seed, draw)
            x = states(self.data, rows, self.bounds, seed, self.dtype)
            given: dict[str, Any] = {
                "micro_batch": len(rows),
                "dtype": self.dtype,
                "device": self.device,
                "progress": False,
            }
            results.append(log_likelihood(self.model, x, seed=seed, index=rows, **given, **self.options))
        values = over_draws(results)
        if self.data.levels is not None:
            bits: dict[str, Any] = {"levels": self.data.levels, "range": self.bounds, "dims": self.data.dims}
            values["bits_per_dim"] = bits_per_dim(values["log_prob"], **bits)
        facts = {key: getattr(results[0], key, None) for key in _FACTS}
        return {key: v.tolist() if isinstance(v, Tensor) else list(v) for key, v in values.items()}, facts


def column_names(draws: int) -> list[str]:
    """The columns of a job's Parquet file."""
    return [*_COLUMNS, *(_DRAWN if draws > 1 else ())]


def draw_seed(seed: int, draw: int) -> int:
    """The seed of one dequantisation: the first is the job's own, the others share no number with near seeds."""
    if draw == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"dequantise {seed} {draw}".encode()).digest()[:8], "big")


def over_draws(results: Sequence[Likelihood]) -> dict[str, Any]:
    """The columns of B samples from K draws of their dequantisation: log (1/K) sum_k p(x + u_k).

    Burda et al. 2016, eq. 8, with u uniform: a bound that rises to the discrete log p with K. Errors by the
    delta method; "tightening" is what K draws gained over the mean of single ones.
    """
    first = results[0]
    values: dict[str, Any] = {
        "log_prob": first.log_prob.cpu(), "std_error": first.std_error.cpu(), "status": first.status,
        "calls": first.calls.cpu(), "latent_norm": first.latent.double().flatten(1).norm(dim=1).cpu(),
    }  # fmt: skip
    solver = [getattr(r, "solver_error", None) for r in results]
    known = [error.cpu() for error in solver if error is not None]
    if known:
        values["solver_error"] = known[0]
    draws = len(results)
    if draws == 1:
        return values
    each = torch.stack([r.log_prob.cpu() for r in results])
    weights = each.softmax(0)
    values["log_prob"] = each.logsumexp(0) - math.log(draws)
    values["std_error"] = (weights * torch.stack([r.std_error.cpu() for r in results])).square().sum(0).sqrt()
    values["calls"] = torch.stack([r.calls.cpu() for r in results]).sum(0)
    values["status"] = [
        next((w for w in words if w != "ok"), "ok") for words in zip(*(r.status for r in results), strict=True)
    ]
    values["dequantisation_error"] = weights.std(0) * math.sqrt(draws)
    values["tightening"] = values["log_prob"] - each.mean(0)
    if len(known) == draws:
        values["solver_error"] = (weights * torch.stack(known)).sum(0)
    return values


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a device or here."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
