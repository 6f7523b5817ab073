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
from sdediff.grids.levels import level
from sdediff.jobs.errors import JobError
from sdediff.jobs.inputs import Range, states
from sdediff.jobs.locks import Say
from sdediff.likelihood.settings import ENDS, MASS
from sdediff.likelihood.units import Discrete, bits_per_dim
from sdediff.model.score_model import ScoreModel

if TYPE_CHECKING:
    from sdediff.likelihood import Likelihood

Options = dict[str, Any]
BAD_ROW = "bad row"
# What the job itself gives the estimator.
_OWN = ("model", "x", "seed", "index", "autoencoder", "micro_batch", "dtype", "device", "progress")
# What the estimator reports of all samples at once.
_FACTS = ("dims", "t0", "end", "method", "prior", "scale", "mass")
_COLUMNS = ("index", "log_prob", "std_error", "bits_per_dim", "status", "calls", "latent_norm", "solver_error")
_DRAWN = ("dequantisation_error", "tightening")
_NONE = {"status": BAD_ROW, "calls": 0}


def estimator_settings(options: dict[str, Any]) -> dict[str, Any]:
    """The estimator's options with its defaults filled in. JobError: an option that it does not take."""
    from sdediff._utils.suggestions import nearest
    from sdediff.likelihood import log_likelihood
    from sdediff.likelihood.settings import DEFAULTS, settled

    known = {k: v.default for k, v in inspect.signature(log_likelihood).parameters.items() if k not in _OWN}
    for key in options:
        if key not in known:
            raise JobError(nearest(key, known, "option of log_likelihood"))
    every = {**known, **options}
    by_method = {key: every[key] for defaults in DEFAULTS.values() for key in defaults}
    return {**every, **settled(every["method"], every["preset"], by_method)}


def fitted(options: dict[str, Any], model: ScoreModel, data: DataSet, bounds: Range, draws: int, say: Say) -> Options:
    """The options for these data: a noised end where the noise at t0 hides a level, levels where a bound takes them.

    From t0 on the flow knows nothing finer than sigma(t0): integrated from data that lack this noise, or dequantised
    over less of it, it answers a question that its network has never seen. A network that by its card was trained on
    dequantised data does not know the levels: it is bounded on dequantised ones.
    """
    found, settled_ = dict(options), estimator_settings(options)
    if data.levels is None:
        return found
    bins = Discrete(data.levels, bounds)
    start = level(model.sde, model.sde.t0 if settled_["t0"] is None else settled_["t0"])
    if settled_["end"] != "noised" and "noised" in ENDS[settled_["method"]] and start.kappa > bins.width:
        if "end" in options:
            say(f"end={options['end']!r}, yet the noise at t0 is {start.kappa / bins.width:.2g} levels wide: see docs")
        else:
            say(f"the noise at t0 is {start.kappa / bins.width:.2g} levels wide: the bound end='noised' is reported")
            found["end"] = settled_["end"] = "noised"
    blurred = settled_["end"] == "data" and (model.card.get("data") or {}).get("dequantised")
    if settled_["end"] in MASS and not blurred:
        found["discrete"] = bins
    if draws > 1 and settled_["end"] == "data":
        raise JobError(f"draws={draws}: method={settled_['method']!r} has no weights to average: write noises={draws}")
    return found


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
            x = states(self.data, rows, self.bounds, None if "discrete" in self.options else seed, self.dtype)
            given: dict[str, Any] = {
                "micro_batch": len(rows),
                "dtype": self.dtype,
                "device": self.device,
                "progress": False,
            }
            given |= self.options
            if self.options.get("cond"):
                given["cond"] = {name: self._own(value, rows) for name, value in self.options["cond"].items()}
            results.append(log_likelihood(self.model, x, seed=seed, index=rows, **given))
        values = over_draws(results)
        if self.data.levels is not None:
            whole = results[0].with_(log_prob=values["log_prob"])
            values["bits_per_dim"] = bits_per_dim(whole, levels=self.data.levels, range=self.bounds)
        facts = {key: getattr(results[0], key, None) for key in _FACTS}
        return {key: v.tolist() if isinstance(v, Tensor) else list(v) for key, v in values.items()}, facts

    def _own(self, value: Any, rows: Sequence[int]) -> Any:
        """A condition of these rows, where it has one for every row of the data."""
        if isinstance(value, Tensor) and value.ndim and len(value) == len(self.data):
            return value[torch.as_tensor(rows, device=value.device)]
        return value


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
