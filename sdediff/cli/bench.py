"""`bench`: solvers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdediff.cli.options import BadInput, Check, Device, Dtype, Json, Out, Seed, make_solver, naming, placed, writable
from sdediff.cli.output import emit, show


def bench(
    task: Annotated[list[str] | None, typer.Option(help="digits, gmm64, a model, ...; may be repeated.")] = None,
    solver: Annotated[list[str] | None, typer.Option(help="name or name:key=value,...; may be repeated.")] = None,
    calls: Annotated[list[str] | None, typer.Option(help="Network evaluations, such as 5,10; may be repeated.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Samples that each solver draws.")] = None,
    distance: Annotated[str, typer.Option(help="frechet[pca32], energy, mmd, sliced_wasserstein.")] = "frechet[pca32]",
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
    from sdediff.benchmark.tasks import resolve_task

    place, kind = placed(device, dtype)
    named = {text: make_solver(text.partition(":")[0], _options(text), option_flag="--solver") for text in solver or ()}
    counts = _counts(calls) if calls else (5, 10, 20, 50)
    with naming("--distance"):
        metric = distance_function(distance)
    with naming("--task"):
        tasks = [resolve_task(name, place, kind) for name in task or ("digits", "gmm64")]
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


def _options(text: str) -> list[str]:
    options = text.partition(":")[2]
    return options.split(",") if options else []


def _counts(given: list[str]) -> list[int]:
    try:
        counts = sorted({int(part) for text in given for part in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1:
        raise BadInput(f"--calls: {' '.join(given)!r} is not a list of positive integers: write it as 5,10,20")
    return counts
