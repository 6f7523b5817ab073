"""`sample`: draws samples, and shows images in one picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.model_options import Cond, Model, StatisticsOf, Trust, conditioned, load_model
from sdediff.cli.options import (
    BadInput,
    Device,
    Dtype,
    Json,
    Out,
    Seed,
    make_solver,
    naming,
    pair,
    placed,
    sample_shape,
    solver_and_grid,
    writable,
)
from sdediff.cli.output import emit
from sdediff.cli.recommended import recommended

if TYPE_CHECKING:
    from torch import Tensor

    from sdediff.model.score_model import ScoreModel
    from sdediff.sampling.run import Plan
    from sdediff.solvers import Solver

_BATCH, _SHOWN = 256, 400


def sample(
    model: Model,
    solver: Annotated[str, typer.Option(help="A name of `sdediff solvers`, or auto.")] = "dpmpp_2m",
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps, without the final denoising.")] = None,
    calls: Annotated[int | None, typer.Option(min=1, help="Network evaluations in all, instead of steps.")] = None,
    grid: Annotated[str | None, typer.Option(help="log_snr, karras, beta, ...; default: the solver's.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Number of samples.")] = 64,
    index: Annotated[int, typer.Option(min=0, help="Index of the first sample; sample i depends on (seed, i).")] = 0,
    option: Annotated[list[str] | None, typer.Option(help="key=value of the solver; repeatable.")] = None,
    lower_order_final: Annotated[bool, typer.Option(help="Lower a multistep solver's order at the end.")] = False,
    clip: Annotated[str | None, typer.Option(metavar="LOW,HIGH", help="Clip the predicted x0, as in -1,1.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Dynamic thresholding of x0, as in 0.995.")] = None,
    refresh: Annotated[bool, typer.Option(help="Of --solver auto: measure again what was kept.")] = False,
    shape: Annotated[str | None, typer.Option(help="Of one sample, such as 1,8,8; default: the card's.")] = None,
    cond: Cond = None,
    statistics: StatisticsOf = None,
    trust: Trust = None,
    out: Out = Path("sample-results"),
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Draw samples of a model: writes samples.npz, and samples.png for images."""

    place, kind = placed(device, dtype)
    solver, named = solver_and_grid(solver)
    grid = grid or named
    used = _chosen(solver, option or (), lower_order_final, grid)
    loaded = load_model(model, place, kind, trust, statistics)
    loaded, given_cond = conditioned(loaded, cond, n)
    loaded = _guided(loaded, clip, threshold)
    size = sample_shape(loaded, shape)
    _known_grid(grid)
    given = (("--calls", calls), ("--steps", steps), ("--grid", grid))
    with naming(next((flag for flag, value in given if value is not None), "--solver")):
        planned = _planned(model, loaded, size, used, steps, calls, grid, refresh, given_cond)
    folder, began = writable(out), time.perf_counter()
    x, counted = _drawn(loaded, n, size, index, given_cond, solver=planned.solver, grid=planned.times, seed=seed)
    settings = {
        "model": model, "solver": repr(planned.solver), "steps": len(planned.times) - 1, "calls": counted, "n": n,
        "index": index, "seed": seed, "guidance": [repr(change) for change in getattr(loaded, "changes", ())],
        "device": str(place), "dtype": str(x.dtype).removeprefix("torch."),
        "seconds": round(time.perf_counter() - began, 3),
    }  # fmt: skip
    with naming("--out"):
        files = _written(folder, x, loaded)
    if as_json:
        emit({**settings, "files": files})
        return
    typer.echo(f"{n} samples of {model} by {planned.solver!r}: {counted} network evaluations, {settings['seconds']} s")
    typer.echo("\n".join(str(path) for path in files.values()))


def _chosen(name: str, options: Sequence[str], lower: bool, grid: str | None) -> Solver | str:
    """The solver with its options; "auto" passes through and takes no options."""
    from sdediff.sampling.arguments import check_alone
    from sdediff.solvers import lower_order_final

    if name == "auto":
        given = {"--option": options, "--lower-order-final": lower, "--grid": grid}
        for flag in [flag for flag, value in given.items() if value]:
            raise BadInput(f"{flag}: --solver auto chooses that too: leave {flag} out, or name a solver")
        return name
    used = make_solver(name, options)
    with naming("--solver"):
        check_alone(used)
    with naming("--lower-order-final"):
        return lower_order_final(used) if lower else used


def _planned(
    name: str,
    model: ScoreModel,
    size: tuple[int, ...],
    used: Solver | str,
    steps: int | None,
    calls: int | None,
    grid: str | None,
    refresh: bool,
    cond: dict[str, Any] | None,
) -> Plan:
    """The solver and times; of auto those that are kept with the model, or measured now."""
    import sdediff as sd

    if refresh and used != "auto":
        raise BadInput("--refresh: it measures anew what --solver auto has kept: leave it out, or write --solver auto")
    if used != "auto":
        return sd.Sampler(model, solver=used, steps=steps, calls=calls, grid=grid).plan()
    if steps is not None and calls is not None:
        raise BadInput("--calls: --steps was given too: give one of them")
    best = recommended(name, model, size, calls or (steps or 20) + 1, cond=cond, refresh=refresh)
    return sd.Sampler(model, solver=best.solver, grid=best.times).plan()


def _guided(model: ScoreModel, clip: str | None, quantile: float | None) -> ScoreModel:
    """The model with x0 clipped or thresholded; a threshold's limit is the larger end of the data's range."""
    from sdediff import guidance
    from sdediff.model.data_card import DataCard

    if clip is not None and quantile is not None:
        raise BadInput("--threshold: x0 is thresholded or clipped, give one of --threshold and --clip")
    ends = pair(clip, "--clip")
    if ends is not None:
        with naming("--clip"):
            return guidance.clip(model, *ends)
    if quantile is None:
        return model
    limit = max(abs(float(end)) for end in DataCard.of(model.card).bounds)
    with naming("--threshold"):
        return guidance.threshold(model, quantile, limit)


def _known_grid(name: str | None) -> None:
    from sdediff._utils.suggestions import nearest
    from sdediff.grids.grids import GRIDS

    if name is not None and name not in GRIDS:
        raise BadInput(f"--grid: {nearest(name, GRIDS, 'grid')}")


def _drawn(
    model: ScoreModel, n: int, size: tuple[int, ...], index: int, cond: dict[str, Any] | None, **options: Any
) -> tuple[Tensor, int]:
    """The samples, and the most network evaluations that one of them took."""
    import torch

    import sdediff as sd
    from sdediff._utils.progress import track

    starts, parts, counted = range(0, n, _BATCH), [], 0
    for start in track(starts, len(starts), "sampling") if len(starts) > 1 else starts:
        shape = (min(_BATCH, n - start), *size)
        options["cond"] = None if cond is None else _cut(model, cond, n, start, shape[0])
        show = None if len(starts) == 1 else False
        record = sd.sample(model, shape, index=index + start, full=True, progress=show, **options)
        parts.append(record.x.cpu())
        counted = max(counted, record.calls)
    x = torch.cat(parts)
    bad = int((~torch.isfinite(x.flatten(1)).all(1)).sum())
    if bad:
        raise BadInput(f"--solver: {bad} of {n} samples are not finite: give more calls, or another solver", 1)
    return x, counted


def _cut(model: ScoreModel, cond: dict[str, Any], n: int, start: int, count: int) -> dict[str, Any]:
    """The conditions of some of n samples."""
    import torch

    from sdediff.model.conditions import as_tensors, rows_of_conditions

    rows = torch.arange(start, start + count)
    with naming("--cond"):
        return rows_of_conditions(as_tensors(cond), rows, n, model.per_sample, model.shared)


def _written(folder: Path, x: Tensor, model: ScoreModel) -> dict[str, str]:
    import numpy as np

    from sdediff._utils.files import whole
    from sdediff.datasets import save_grid
    from sdediff.model.data_card import DataCard

    values = x if x.dtype.itemsize > 2 else x.float()
    files = {"npz": folder / "samples.npz"}
    with whole(files["npz"]) as unfinished, unfinished.open("wb") as stream:
        np.savez(stream, x=values.numpy())
    if x.ndim == 4 and x.shape[1] in (1, 3):
        files["png"] = save_grid(values[:_SHOWN], folder / "samples.png", range=DataCard.of(model.card).bounds)
    return {kind: str(path) for kind, path in files.items()}
