"""`recommend`: which solver and grid for so many calls on a model."""

from __future__ import annotations

from typing import Annotated

import typer

from sdediff.cli.options import Device, Dtype, Json, Seed, naming, placed, sample_shape
from sdediff.cli.output import emit, show


def recommend(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of `sdediff models`, a folder, or a hub id.")],
    calls: Annotated[int, typer.Option(min=2, help="Network evaluations a sample, the last included.")] = 10,
    solver: Annotated[list[str] | None, typer.Option(help="Choose among these; may be repeated.")] = None,
    starts: Annotated[int, typer.Option(min=1, help="Starts that the best candidates are measured on.")] = 48,
    shape: Annotated[str | None, typer.Option(help="Of one sample, such as 1,8,8, where the card has none.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Measure solvers and grids on a model and name the best, with its table and the lines to use it."""
    import sdediff as sd
    from sdediff.analysis import recommend as measure_and_choose

    place, kind = placed(device, dtype)
    with naming("MODEL"):
        loaded = sd.load(model, place, kind)
    size = sample_shape(loaded, shape)
    with naming("--solver" if solver else "--calls"):
        best = measure_and_choose(
            loaded, size, calls=calls, candidates=solver, starts=starts, seed=seed, dtype=kind, device=place
        )
    if as_json:
        emit({
            "model": model, "calls": calls, "solver": repr(best.solver), "grid": best.grid,
            "times": best.times.tolist(), "error": best.error, "python": best.python, "command": best.command,
            "reference": {"calls": best.reference_calls, "error": best.reference_error},
            "seconds": round(best.seconds, 2),
            "candidates": [row._asdict() for row in best.candidates],
        })  # fmt: skip
        return
    show(best)
    typer.echo(best.python)
    if best.command:
        typer.echo(best.command)
