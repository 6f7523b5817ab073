"""`likelihood_job`: the likelihood of every sample of a data set, shard by shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from sdediff._utils.checks import whole
from sdediff.datasets import DataSet
from sdediff.jobs.errors import JobError
from sdediff.jobs.fitting import fitted
from sdediff.jobs.identity import described, model_parts
from sdediff.jobs.latents import BOUNDS, check_of, first_states, image_rows
from sdediff.jobs.launching import Launch
from sdediff.jobs.names import NamedModel, as_model, named_data, recipe_for
from sdediff.jobs.report import write_report
from sdediff.jobs.scoring import LikelihoodWork, fit_settings
from sdediff.jobs.summary import Summary, summarise
from sdediff.jobs.work import Say
from sdediff.likelihood import Discrete, LikelihoodSettings
from sdediff.likelihood.ends import Prior
from sdediff.likelihood.settings import merged
from sdediff.model.conditions import as_tensors
from sdediff.model.data_card import DataCard
from sdediff.model.data_check import ranged
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter
from sdediff.sampling.run import check_eval, placement
from sdediff.wiring import warn_of_misfit

# What other processes make the work with.
MAKE = "sdediff.jobs.likelihood:likelihood_work"


def likelihood_job(
    model: ScoreModel | str,
    data: DataSet | str | Path | np.ndarray | Tensor | TorchDataset[Any] | Sequence[Any],
    out: str | Path,
    *,
    settings: LikelihoodSettings | None = None,
    method: str | None = None,
    preset: str | None = None,
    integrator: str | None = None,
    variable: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    t0: float | None = None,
    trace: str | None = None,
    probes: int | None = None,
    nodes: int | None = None,
    autograd: bool | None = None,
    prior: Prior | None = None,
    end: str | None = None,
    discrete: Discrete | None = None,
    steps: int | None = None,
    noises: int | None = None,
    fresh: bool | None = None,
    variance: str | None = None,
    solver_error: str | None = None,
    max_steps: int | None = None,
    frozen: bool | None = None,
    of: str | None = None,
    decoder_std: float | None = None,
    cond: dict[str, Any] | None = None,
    levels: int | None = None,
    range: tuple[float, float] | None = None,
    key: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    draws: int = 1,
    micro_batch: int = 64,
    shard: int | None = None,
    skip_bad: bool = False,
    skip_failed: bool = False,
    part: str | None = None,
    engine: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    trust: Sequence[str] = (),
    num_threads: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool | None = None,
    say: Say | None = None,
    model_range: tuple[float, float] | None = None,
    check: bool = True,
) -> Summary | None:
    """Score a data set into a folder: likelihood.parquet (a row a sample), summary.json, report.html.

    A job that was interrupted continues. data: a path (levels, range, key as in `sdediff.datasets.read`), an array or
    tensor (N, ...), a DataSet, a torch Dataset. The settings are those of `log_likelihood`; a condition with N rows
    has a row a sample. draws: dequantisations a sample. shard: rows that are written together, a multiple of
    micro_batch, by default about five minutes of work. skip_bad, skip_failed: report means in spite of rows with NaN,
    or on which the network failed. part: "i/n", the shards i modulo n, by default torchrun's rank; None is returned
    where other parts are not finished. workers: processes that compute, for a model and data given by name; engine,
    address: "ray" and its cluster. model_range: of the network, where its card has none. check: begin a new job by
    `sdediff.check`, WiringWarning. of: what the data of a latent model are, "latents", or "images" for the
    encoder-decoder bound with the decoder's deviation decoder_std. Raises JobError, DataError, Stopped, and what fails
    on every row.
    """
    chosen = merged(
        settings, method=method, preset=preset, integrator=integrator, variable=variable, rtol=rtol, atol=atol, t0=t0,
        trace=trace, probes=probes, nodes=nodes, autograd=autograd, prior=prior, end=end, discrete=discrete,
        steps=steps, noises=noises, fresh=fresh, variance=variance, solver_error=solver_error, max_steps=max_steps,
        frozen=frozen,
    )  # fmt: skip
    launch = Launch.of(
        out, engine=engine, workers=workers, address=address, part=part, num_threads=num_threads,
        micro_batch=micro_batch, shard=shard, keep=skip_failed, progress=progress, say=say,
    )  # fmt: skip
    arguments: dict[str, Any] = {
        "model": model, "data": data, "settings": chosen, "cond": cond, "levels": levels, "range": range, "key": key,
        "limit": limit, "seed": seed, "draws": draws, "micro_batch": micro_batch, "threads": launch.threads,
        "trust": trust, "dtype": dtype, "device": device, "model_range": model_range, "of": of,
        "decoder_std": decoder_std,
    }  # fmt: skip
    work = likelihood_work(**arguments, say=launch.say)
    if check and launch.first:
        seen = first_states(work.model, work.data) if of == "images" else work.data
        warn_of_misfit(work.model, seen, cond, work.dtype, work.device)
    outcome = launch.outcome(work, recipe_for(launch.engine, MAKE, arguments))
    if outcome is None:
        return None
    named = work.model.card.get("name")
    found = summarise(launch.folder, outcome.manifest, named, work.device, skip_bad, skip_failed)
    return _written(found, launch.folder)


def _written(summary: Summary, folder: Path) -> Summary:
    """The summary, written with its report."""
    try:
        summary.save(folder)
        write_report(folder, summary)
    except OSError as error:
        raise JobError(f"{folder} cannot be written ({error.strerror or error}): the result is there") from error
    return summary


def likelihood_work(
    model: ScoreModel | NamedModel | str,
    data: Any,
    *,
    settings: LikelihoodSettings | None = None,
    cond: dict[str, Any] | None = None,
    levels: int | None = None,
    range: tuple[float, float] | None = None,
    key: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    draws: int = 1,
    micro_batch: int = 64,
    threads: int = 1,
    trust: Sequence[str] = (),
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    model_range: tuple[float, float] | None = None,
    of: str | None = None,
    decoder_std: float | None = None,
    say: Say = lambda _: None,
) -> LikelihoodWork:
    """The work of `likelihood_job`, with the same arguments, for `estimate` and for engines of one's own.

    Its data are compared with the model's card, its settings filled in. JobError, DataError as there.
    """
    model = as_model(model, trust, device, dtype)
    model = model if model_range is None else ranged(model, model_range)
    check_eval(model)
    check_of(model, of, decoder_std)
    named, images = named_data(data, levels, range, key, limit), of == "images"
    rows = image_rows(model, named, decoder_std) if images else fitted(model, named, say)
    seed, draws = Counter(seed).seed, _checked_draws(rows, draws)
    dtype, device = placement(model, dtype, device)
    bounds = BOUNDS if images else DataCard.of(model.card).bounds
    chosen = settings or LikelihoodSettings()
    chosen = chosen if images else fit_settings(chosen, model, rows, bounds, draws, say)
    described_settings = {
        "seed": seed, "draws": draws, "micro_batch": micro_batch, "threads": threads,
        "dtype": str(dtype).removeprefix("torch."), "device": device.type, "model_range": list(bounds),
        "cond": described(cond), **{name: described(value) for name, value in chosen.values().items()},
    }  # fmt: skip
    described_settings |= {} if of is None else {"of": of, "decoder_std": decoder_std}
    about = {"model": model_parts(model), "settings": described_settings}
    given = as_tensors({} if cond is None else cond)
    return LikelihoodWork(model, rows, bounds, seed, draws, dtype, device, chosen, given, about, of, decoder_std)


def _checked_draws(data: DataSet, draws: int) -> int:
    """A number of draws that can be."""
    draws = whole("draws", draws)
    if draws < 1:
        raise JobError(f"draws={draws}: give at least 1")
    if draws > 1 and data.levels is None:
        raise JobError(f"draws={draws}: {data.name} is continuous and has nothing to dequantise: leave draws out")
    return draws
