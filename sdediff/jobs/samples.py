"""`sample_job`: many samples of a model, shard by shard, into one .npz and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdediff import guidance
from sdediff._utils.checks import listed, state_shape
from sdediff._utils.checks import whole as whole_number
from sdediff._utils.files import whole
from sdediff.datasets import needed, save_grid
from sdediff.jobs import arrays
from sdediff.jobs.errors import JobError
from sdediff.jobs.identity import described, model_parts
from sdediff.jobs.launching import Launch
from sdediff.jobs.names import NamedModel, as_model, recipe_for
from sdediff.jobs.sampling_work import SamplesWork
from sdediff.jobs.work import Say
from sdediff.model.conditions import as_tensors, rows_of_conditions
from sdediff.model.data_card import DataCard
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter
from sdediff.sampling.run import check_eval, placement
from sdediff.sampling.sampler import Sampler
from sdediff.solvers import Solver

_SHOWN, _AT_ONCE = 400, 256
# What other processes make the work with.
MAKE = "sdediff.jobs.samples:samples_work"


@dataclass(frozen=True)
class Samples:
    """The samples of a finished job: where they are, and what they were drawn with. failed: those that are NaN."""

    samples: int
    calls: int
    seconds: float
    failed: tuple[int, ...]
    files: dict[str, str]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def sample_job(
    model: ScoreModel | str,
    out: str | Path,
    *,
    samples: int,
    shape: Sequence[int] | None = None,
    solver: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    calls: int | None = None,
    grid: Any = None,
    cond: dict[str, Any] | None = None,
    clip: tuple[float, float] | None = None,
    threshold: tuple[float, float] | None = None,
    seed: int = 0,
    index: int = 0,
    pictures: bool = False,
    micro_batch: int = _AT_ONCE,
    shard: int | None = None,
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
) -> Samples | None:
    """Draw samples into a folder: samples.npz (x, and the settings as JSON), settings.json, a picture of the first.

    A job that was interrupted continues, and may be given more samples. shape: of one sample, by default the card's.
    steps, calls, grid, seed, index as in `sample`; sample i is that of sd.sample in batches of micro_batch. clip:
    (low, high) of the predicted x0; threshold: (quantile, limit). pictures: a PNG a sample too. part, engine, workers,
    address, as in `likelihood_job`; None is returned where other parts are not finished. Raises JobError, Stopped.
    """
    launch = Launch.of(
        out, engine=engine, workers=workers, address=address, part=part, num_threads=num_threads,
        micro_batch=micro_batch, shard=shard, keep=skip_failed, progress=progress, say=say,
    )  # fmt: skip
    arguments: dict[str, Any] = {
        "model": model, "samples": samples, "shape": shape, "solver": solver, "steps": steps, "calls": calls,
        "grid": grid, "cond": cond, "clip": clip, "threshold": threshold, "seed": seed, "index": index,
        "micro_batch": micro_batch, "threads": launch.threads, "trust": trust, "dtype": dtype, "device": device,
    }  # fmt: skip
    work = samples_work(**arguments)
    planned = {"solver": work.solver, "grid": work.times, "steps": None, "calls": None}
    outcome = launch.outcome(work, recipe_for(launch.engine, MAKE, arguments, **planned))
    return None if outcome is None else _finished(launch.folder, work, outcome.manifest.result, pictures)


def samples_work(
    model: ScoreModel | NamedModel | str,
    *,
    samples: int,
    shape: Sequence[int] | None = None,
    solver: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    calls: int | None = None,
    grid: Any = None,
    cond: dict[str, Any] | None = None,
    clip: tuple[float, float] | None = None,
    threshold: tuple[float, float] | None = None,
    seed: int = 0,
    index: int = 0,
    micro_batch: int = _AT_ONCE,
    threads: int = 1,
    trust: Sequence[str] = (),
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> SamplesWork:
    """The work of `sample_job`, with the same arguments, its solver and times chosen; for `estimate`, and for engines.

    JobError, InputError as there.
    """
    samples = whole_number("samples", samples, 1)
    model = as_model(model, trust, device, dtype)
    check_eval(model)
    model = guidance.clip(model, *clip) if clip else model
    model = guidance.threshold(model, *threshold) if threshold else model
    given_shape = None if shape is None else state_shape((1, *listed("shape", shape, "(1, 8, 8)")))[1:]
    size = DataCard.of(model.card).shape if given_shape is None else given_shape
    if not size:
        raise JobError("the model's card does not say the shape of a sample: give shape, such as (1, 8, 8)")
    seed, index = Counter(seed).seed, whole_number("index", index, 0)
    dtype, device = placement(model, dtype, device)
    batch = min(micro_batch, samples)
    given = as_tensors({} if cond is None else cond)
    few = rows_of_conditions(given, torch.arange(batch), samples, model.per_sample, model.shared) or None
    planned = Sampler(model, solver=solver, steps=steps, calls=calls, grid=grid).plan((batch, *size), cond=few)
    settings = {
        "solver": repr(planned.solver), "times": described(planned.times), "steps": len(planned.times) - 1,
        "seed": seed, "index": index, "micro_batch": micro_batch, "threads": threads, "shape": list(size),
        "cond": described(cond), "guidance": [repr(change) for change in model.changes],
        "dtype": str(dtype).removeprefix("torch."), "device": device.type,
    }  # fmt: skip
    about = {"model": model_parts(model), "settings": settings}
    return SamplesWork(model, size, samples, index, planned.solver, planned.times, seed, given, dtype, device, about)


def _finished(folder: Path, work: SamplesWork, result: dict[str, Any], pictures: bool) -> Samples:
    """Write what shows the samples, and describe them."""
    path = folder / work.result
    files, failed, first = {"npz": str(path)}, [], 0
    for part in arrays.each_part(path, 4096):
        good = np.isfinite(part.reshape(len(part), -1)).all(1)
        failed += (first + np.flatnonzero(~good)).tolist()
        first += len(part)
    settings = {**work.described["settings"], "model": work.model.card.get("name"), "samples": work.units}
    with whole(folder / "settings.json") as unfinished:
        unfinished.write_text(json.dumps({**settings, "calls": result.get("calls")}, indent=1) + "\n", encoding="utf-8")
    files["settings"] = str(folder / "settings.json")
    bounds = DataCard.of(work.model.card).bounds
    if len(work.size) == 3 and work.size[0] in (1, 3):
        shown = np.concatenate(list(arrays.each_part(path, _SHOWN, _SHOWN)))
        shown = shown[np.isfinite(shown.reshape(len(shown), -1)).all(1)]
        if len(shown):
            files["png"] = str(save_grid(shown, folder / "samples.png", range=bounds))
        if pictures:
            files["pictures"] = str(_pictures(folder / "pictures", path, bounds))
    elif pictures:
        raise JobError(f"pictures: samples of shape {work.size} are no images of 1 or 3 channels: leave it out")
    seconds = round(result.get("seconds", 0.0), 3)
    return Samples(work.units, int(result.get("calls", 0)), seconds, tuple(failed), files, settings)


def _pictures(folder: Path, path: Path, bounds: tuple[float, float]) -> Path:
    """A PNG a sample, named by its place in the array; failed ones are left out."""
    pillow: Any = needed("PIL.Image", "pillow")
    folder.mkdir(exist_ok=True)
    low, high = bounds
    first = 0
    for part in arrays.each_part(path, _AT_ONCE):
        for at, image in enumerate(part):
            if np.isfinite(image).all():
                grey = np.rint((image.astype(np.float64) - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
                pixels = grey[0] if len(grey) == 1 else grey.transpose(1, 2, 0)
                with whole(folder / f"{first + at:08d}.png") as unfinished:
                    pillow.fromarray(pixels).save(unfinished, format="PNG")
        first += len(part)
    return folder
