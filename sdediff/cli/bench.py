"""`bench`: solvers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.data import data_set
from sdediff.cli.model_options import MODEL_HELP, Cond, Trust, conditioned, load_model
from sdediff.cli.options import BadInput, Check, Device, Dtype, Json, Out, Seed, make_solver, naming, placed, writable
from sdediff.cli.output import emit, show

if TYPE_CHECKING:
    from sdediff.benchmark import Task


def bench(
    model: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help=MODEL_HELP)] = None,
    task: Annotated[list[str] | None, typer.Option(help="digits, gmm64, a model, ...; may be repeated.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="What samples of MODEL follow: digits, or a file or folder.")
    ] = None,
    solver: Annotated[list[str] | None, typer.Option(help="name or name:key=value,...; may be repeated.")] = None,
    calls: Annotated[list[str] | None, typer.Option(help="Network evaluations, such as 5,10; may be repeated.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Samples that each solver draws.")] = None,
    distance: Annotated[str, typer.Option(help="frechet[pca32], energy, mmd, sliced_wasserstein.")] = "frechet[pca32]",
    cond: Cond = None,
    trust: Trust = None,
    check: Check = True,
    out: Out = Path("bench-results"),
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Compare solvers for speed and quality: a table, bench.png and bench.json."""
    from sdediff.benchmark import bench as sweep
    from sdediff.benchmark.sweep import distance_function

    place, kind = placed(device, dtype)
    named = {text: make_solver(*_solver(text), option_flag="--solver") for text in solver or ()}
    counts = _counts(calls) if calls else (5, 10, 20, 50)
    with naming("--distance"):
        metric = distance_function(distance)
    tasks = _tasks(model or (), task or (), data, cond, trust, place, kind)
    folder = writable(out)
    report = sweep(tasks, named or None, counts, samples=samples, distance=metric, seed=seed, dtype=kind, check=check)
    with naming("--out"):
        files = {"json": report.save(folder / "bench.json"), "png": report.plot(folder / "bench.png")}
    if as_json:
        emit({**report.to_dict(), "files": files})
        return
    show(report.table())
    for skip in report.skipped:
        typer.echo(f"skipped: {skip.task}, {skip.solver} at {skip.budget}: {skip.reason}")
    typer.echo("\n".join(str(path) for path in files.values()))


def _tasks(
    models: Sequence[str], names: Sequence[str], data: str | None, cond: Any, trust: Any, place: Any, kind: Any
) -> list[Task]:
    """The tasks of MODEL and --task, by default the digits and a mixture."""
    from dataclasses import replace

    from sdediff.benchmark.tasks import resolve_task

    tasks = []
    rows = None if data is None else data_set(data, "test", None, None, None, None)
    for name in models:
        loaded, given = conditioned(load_model(name, place, kind, trust), cond)
        with naming("--data" if data else "MODEL"):
            tasks.append(replace(resolve_task(loaded, place, kind, rows, given), name=name))
    for name in names or (() if models else ("digits", "gmm64")):
        with naming("--task"):
            tasks.append(resolve_task(name, place, kind, rows))
    return tasks


def _solver(text: str) -> tuple[str, list[str]]:
    """The name and the options of name:key=value,... where the name may be package.module:MySolver."""
    from sdediff.solvers import names

    name, _, options = text.partition(":")
    if options and name not in names():
        name, _, options = text.rpartition(":") if "=" in text else (text, "", "")
    return name, options.split(",") if options else []


def _counts(given: list[str]) -> list[int]:
    try:
        counts = sorted({int(part) for text in given for part in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1:
        raise BadInput(f"--calls: {' '.join(given)!r} is not a list of positive integers: write it as 5,10,20")
    return counts
