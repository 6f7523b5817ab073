"""`LikelihoodWork`: the likelihood of rows of a data set, without bad rows, averaged over several dequantisations."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sdediff._utils.errors import DataWarning
from sdediff.datasets import DataSet
from sdediff.grids.levels import level
from sdediff.jobs.blocks import Blocks
from sdediff.jobs.errors import JobError
from sdediff.jobs.inputs import Range, states
from sdediff.jobs.latents import scored
from sdediff.jobs.work import Batch, Say, Taken, Work
from sdediff.likelihood import Discrete, Likelihood, LikelihoodSettings, bits_per_dim
from sdediff.likelihood.settings import ENDS, LEVEL_ENDS
from sdediff.model.conditions import rows_of_conditions
from sdediff.model.data_card import DataCard
from sdediff.model.score_model import ScoreModel

if TYPE_CHECKING:
    import pyarrow as pa

BAD_ROW, FAILED = "bad row", "failed"
# The fields of a Likelihood that are the same for all samples.
_FACTS = ("dims", "t0", "end", "method", "prior", "scale", "mass", "of")
_COLUMNS = ("index", "log_prob", "std_error", "bits_per_dim", "status", "calls", "latent_norm", "solver_error")
_DRAW_COLUMNS = ("dequantisation_error", "tightening")
_BAD_ROW_VALUES = {"status": BAD_ROW, "calls": 0}


def fit_settings(
    settings: LikelihoodSettings, model: ScoreModel, data: DataSet, bounds: Range, draws: int, say: Say
) -> LikelihoodSettings:
    """The settings for these data: end="noised" where sigma(t0)/alpha exceeds the bin width, and `discrete` for bounds.

    The flow from t0 on has no structure finer than sigma(t0), so the density of data without this noise, or
    dequantised over less of it, is not what the network has learned. A network that by its card was trained on
    dequantised data has not learned the levels: its bound is evaluated on dequantised data.
    """
    if settings.gradient is not None:
        raise JobError(f"gradient={settings.gradient!r}: a job writes numbers without gradients: leave it out")
    if data.levels is None:
        return settings
    bins, values = Discrete(data.levels, bounds), settings.values()
    start = level(model.sde, model.sde.t0 if values["t0"] is None else values["t0"])
    if values["end"] != "noised" and "noised" in ENDS[values["method"]] and start.kappa > bins.width:
        noise = f"the noise at t0 is {start.kappa / bins.width:.2g} levels wide"
        if settings.end is not None:
            say(f"end={settings.end!r}, yet {noise}: end='noised' gives a bound")
        else:
            say(f"{noise}: the bound end='noised' is reported")
            settings = replace(settings, end="noised")
    end = settings.values()["end"]
    if draws > 1 and end == "data":
        raise JobError(f"draws={draws}: method={values['method']!r} has no weights to average: write noises={draws}")
    learned_dequantised = end == "data" and DataCard.of(model.card).dequantised
    if settings.discrete is None and end in LEVEL_ENDS and not learned_dequantised:
        settings = replace(settings, discrete=bins)
    return settings


@dataclass(eq=False)
class LikelihoodWork(Work):
    """The likelihood of every row of a data set. described: the settings and the model's parts for the manifest.

    of, decoder_std: of a latent model, as in `likelihood_job`.
    """

    model: ScoreModel
    data: DataSet
    bounds: Range
    seed: int
    draws: int
    dtype: torch.dtype
    device: torch.device
    settings: LikelihoodSettings
    cond: dict[str, Any]
    described: dict[str, dict[str, Any]]
    of: str | None = None
    decoder_std: float | None = None

    name = "likelihood"
    unit = "row"

    def __post_init__(self) -> None:
        self.units = len(self.data)
        self._blocks = Blocks(self.data)

    def describe(self) -> dict[str, dict[str, Any]]:
        data = self.data
        about = {"name": data.name, "rows": len(data), "shape": list(data.shape), "dtype": data.x.dtype.str}
        about.update(levels=data.levels, range=data.range and list(data.range))
        return {"data": about, **self.described}

    def schema(self) -> pa.Schema:
        return likelihood_schema(self.draws)

    def take(self, units: range) -> Taken:
        return self._blocks.take(units)

    def blocks(self, units: range) -> range:
        return self._blocks.numbers(units)

    def digests(self, units: range, total: int) -> tuple[str, ...]:
        return self._blocks.digests(units, total)

    def identity(self, digests: Sequence[str]) -> str:
        return self._blocks.identity(digests)

    def failed(self, unit: int, message: str) -> dict[str, Any]:
        return {"status": f"{FAILED}: {message}", "calls": 0}

    def batch(self, content: DataSet, units: Sequence[int]) -> Batch:
        """Score some rows; those with NaN or infinity are left out and marked."""
        bad = set(content.bad_rows)
        good = [row for row in units if row not in bad]
        values, facts = self._scored(content, good) if good else ({}, {})
        place = {row: n for n, row in enumerate(good)}
        columns: dict[str, list[Any]] = {name: [] for name in column_names(self.draws)}
        for row in units:
            for name, column in columns.items():
                if row in place and name in values:
                    column.append(values[name][place[row]])
                else:
                    column.append(row if name == "index" else _BAD_ROW_VALUES.get(name))
        return Batch(columns, facts)

    def _scored(self, content: DataSet, rows: Sequence[int]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        results = []
        at, model = torch.as_tensor(list(rows)), self.model
        cond = rows_of_conditions(self.cond, at, self.units, model.per_sample, model.shared)
        for draw in range(self.draws):
            seed = draw_seed(self.seed, draw)
            dequantise = None if self.settings.discrete is not None else seed
            x = states(content, rows, self.bounds, dequantise, self.dtype)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # the whole set has been compared with the card
                result = scored(
                    self.model, x, self.of, self.decoder_std, settings=self.settings, seed=seed, index=rows, cond=cond,
                    micro_batch=len(rows), dtype=self.dtype, device=self.device, progress=False,
                )  # fmt: skip
            results.append(result)
        values = over_draws(results)
        if self.data.levels is not None:
            averaged = results[0].with_(log_prob=values["log_prob"])
            values["bits_per_dim"] = bits_per_dim(averaged, levels=self.data.levels, range=self.bounds)
        facts = {key: getattr(results[0], key) for key in _FACTS}
        return {key: v.tolist() if isinstance(v, Tensor) else list(v) for key, v in values.items()}, facts


def likelihood_schema(draws: int) -> pa.Schema:
    """The columns of a job's Parquet file with their types."""
    import pyarrow as pa

    kinds = {"index": pa.int64(), "status": pa.string(), "calls": pa.int64()}
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in column_names(draws)])


def column_names(draws: int) -> list[str]:
    """The columns of a job's Parquet file."""
    return [*_COLUMNS, *(_DRAW_COLUMNS if draws > 1 else ())]


def draw_seed(seed: int, draw: int) -> int:
    """The seed of one dequantisation: the job's own for the first, a hash for the others, so that jobs share none."""
    if draw == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"dequantise {seed} {draw}".encode()).digest()[:8], "big")


def over_draws(results: Sequence[Likelihood]) -> dict[str, Any]:
    """The columns of B samples from K draws of their dequantisation: log (1/K) sum_k p(x + u_k).

    Burda et al. 2016, eq. 8, with u uniform: a bound that rises to the discrete log p with K. Errors by the
    delta method; "tightening" is the gain of K draws over the mean of single ones.
    """
    first = results[0]
    values: dict[str, Any] = {
        "log_prob": first.log_prob.cpu(), "std_error": first.std_error.cpu(), "status": first.status,
        "calls": first.calls.cpu(), "latent_norm": first.latent.double().flatten(1).norm(dim=1).cpu(),
        "solver_error": first.solver_error.cpu(),
    }  # fmt: skip
    draws = len(results)
    if draws == 1:
        return values
    each = torch.stack([r.log_prob.cpu() for r in results])
    weights = each.softmax(0)
    values["log_prob"] = each.logsumexp(0) - math.log(draws)
    values["std_error"] = (weights * torch.stack([r.std_error.cpu() for r in results])).square().sum(0).sqrt()
    values["calls"] = torch.stack([r.calls.cpu() for r in results]).sum(0)
    values["status"] = [
        next((status for status in statuses if status != "ok"), "ok")
        for statuses in zip(*(r.status for r in results), strict=True)
    ]
    values["dequantisation_error"] = weights.std(0) * math.sqrt(draws)
    values["tightening"] = values["log_prob"] - each.mean(0)
    values["solver_error"] = (weights * torch.stack([r.solver_error.cpu() for r in results])).sum(0)
    return values
