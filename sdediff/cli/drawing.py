"""Drawing samples for the command `sample`: a few at once, many as a job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdediff.cli.job_options import job_errors
from sdediff.cli.options import BadInput, naming

if TYPE_CHECKING:
    from torch import Tensor

    from sdediff.cli.image_options import ImageOptions
    from sdediff.cli.job_options import JobOptions
    from sdediff.jobs import Estimate, Samples
    from sdediff.model.score_model import ScoreModel
    from sdediff.sampling import SampleRecord
    from sdediff.sampling.run import Plan

BATCH, _SHOWN = 256, 400


def at_once(
    name: str,
    model: ScoreModel,
    planned: Plan,
    shape: tuple[int, ...],
    folder: Path,
    run: dict[str, Any],
    start: ImageOptions | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """A few samples in one batch, by these options of `sample`: their settings, and the files."""
    import json

    from sdediff._utils.files import whole
    from sdediff.jobs.identity import described
    from sdediff.model.data_card import DataCard

    began = time.perf_counter()
    begun, record = start.given if start is not None else {}, None
    if start is not None and begun:
        if "log_prob" in run:
            raise BadInput("--log-prob: it is of runs from noise: leave --image out")
        x, calls = start.drawn(model, shape, planned, DataCard.of(model.card).bounds, **run)
        x = _finite(x.cpu())
    else:
        record = _drawn(model, shape, solver=planned.solver, grid=planned.times, **run)
        x, calls = record.x.cpu(), record.calls
    settings = {
        "model": name, "solver": repr(planned.solver), "steps": len(planned.times) - 1, "calls": calls,
        "n": len(x), "index": run["index"], "seed": run["seed"],
        "guidance": [repr(change) for change in getattr(model, "changes", ())],
        "device": str(x.device), "dtype": str(x.dtype).removeprefix("torch."),
        "cond": described(run["cond"]), **{name: str(value) for name, value in begun.items()},
        "seconds": round(time.perf_counter() - began, 3),
    }  # fmt: skip
    if model.autoencoder is not None:
        settings["samples_of"] = "images, decoded from the latents z"
    with naming("--out"):
        files = _written(folder, x, model, record)
        with whole(folder / "settings.json") as unfinished:
            unfinished.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return settings, {**files, "settings": str(folder / "settings.json")}


def check_job(log_prob: str | None, start: ImageOptions) -> None:
    """Refuse options of what is drawn at once, for a job."""
    if log_prob is not None:
        raise BadInput(f"--log-prob: a job keeps no paths: draw at most {BATCH} at once, without its options")
    if start.given:
        raise BadInput(f"--image: it is for up to {BATCH} samples at once: leave --pictures and a job's options out")


def as_job(model: ScoreModel, folder: Path, job: JobOptions, options: dict[str, Any]) -> Samples | None:
    """The samples of a job; None where other parts of it are not finished."""
    import sdediff as sd

    with job_errors(folder, "MODEL"):
        drawn = sd.sample_job(model, folder, **job.arguments(BATCH), **options)
    if drawn is not None and drawn.failed and not job.skip_failed:
        bad, n = len(drawn.failed), drawn.samples
        raise BadInput(f"--solver: {bad} of {n} samples are not finite: give more calls, or another solver", 1)
    return drawn


def estimated(model: ScoreModel, folder: Path, job: JobOptions, options: dict[str, Any]) -> Estimate:
    """What the job would take."""
    from sdediff.jobs import samples_work

    with job_errors(folder, "MODEL"):
        launch = job.launch(folder, BATCH)
        work = samples_work(model, **options, micro_batch=launch.micro_batch, threads=launch.threads)
        return launch.estimate(work)


def grid_of(solver: Any) -> str:
    """The name of the grid that a solver chooses."""
    return str(getattr(solver, "grid", "") or "its own grid")


def threshold_of(model: ScoreModel, quantile: float | None) -> tuple[float, float] | None:
    """The quantile with its limit."""
    return None if quantile is None else (quantile, limit_of(model))


def limit_of(model: ScoreModel) -> float:
    """The larger end of the data's range, at which x0 is thresholded."""
    from sdediff.model.data_card import DataCard

    return max(abs(float(end)) for end in DataCard.of(model.card).bounds)


def densities(log_prob: str | None, planned: Plan) -> dict[str, Any]:
    """The option of `sample` for densities of steps; refused where the solver has none."""
    from sdediff.sampling.densities import LOG_PROBS, check_kernel

    if log_prob is None:
        return {}
    if log_prob not in LOG_PROBS:
        raise BadInput(f"--log-prob: given {log_prob}: write steps")
    with naming("--log-prob"):
        check_kernel(planned.solver)
    return {"log_prob": log_prob}


def _drawn(model: ScoreModel, shape: tuple[int, ...], **options: Any) -> SampleRecord:
    """The run, of which no sample is lost."""

    import sdediff as sd

    record = sd.sample(model, shape, full=True, **options)
    _finite(record.x)
    return record


def _finite(x: Tensor) -> Tensor:
    """The samples, refused where some are not finite."""
    import torch

    bad = int((~torch.isfinite(x.flatten(1)).all(1)).sum())
    if bad:
        raise BadInput(f"--solver: {bad} of {len(x)} samples are not finite: give more calls, or another solver", 1)
    return x


def _written(folder: Path, x: Tensor, model: ScoreModel, path: SampleRecord | None = None) -> dict[str, str]:
    """The files of samples x; of a path its log densities (steps, n), times and states too."""
    import numpy as np

    from sdediff._utils.files import whole
    from sdediff.cli.latents import decoded
    from sdediff.datasets import save_grid
    from sdediff.model.data_card import DataCard

    values = x if x.dtype.itemsize > 2 else x.float()
    arrays = {"x": values}
    if model.autoencoder is not None:
        values = decoded(model, values)
        arrays = {"x": values, "z": arrays["x"]}
    if path is not None and path.log_prob is not None:
        arrays |= {"log_prob": path.log_prob.cpu(), "times": path.times.cpu(), "trajectory": path.trajectory.cpu()}
    files = {"npz": folder / "samples.npz"}
    saved: dict[str, Any] = {name: array.numpy() for name, array in arrays.items()}
    with whole(files["npz"]) as unfinished, unfinished.open("wb") as stream:
        np.savez(stream, **saved)
    if values.ndim == 4 and values.shape[1] in (1, 3):
        files["png"] = save_grid(values[:_SHOWN], folder / "samples.png", range=DataCard.of(model.card).bounds)
    return {kind: str(path) for kind, path in files.items()}
