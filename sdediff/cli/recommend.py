"""`recommend`: the best solver and grid for a model and a number of network evaluations."""

from __future__ import annotations

from typing import Annotated

import typer

from sdediff.cli.options import Device, Dtype, Json, Seed, naming, placed, sample_shape, solver_and_grid
from sdediff.cli.output import emit, show


def recommend(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of `sdediff models`, a folder, or a hub id.")],
    calls: Annotated[int, typer.Option(min=2, help="Network evaluations a sample, the last included.")] = 10,
    solver: Annotated[list[str] | None, typer.Option(help="Choose among these; repeatable.")] = None,
    starts: Annotated[int, typer.Option(min=1, help="Initial states on which the best candidates are measured.")] = 256,
    shape: Annotated[str | None, typer.Option(help="Of one sample, such as 1,8,8; default: the card's.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Measure solvers and grids on a model: prints a table, and the best as Python and as a command."""
    import sdediff as sd
    from sdediff.analysis import recommend as measure_and_choose

    place, kind = placed(device, dtype)
    with naming("MODEL"):
        loaded = sd.load(model, place, kind)
    size = sample_shape(loaded, shape)
    candidates = [(name, grid) if grid else name for name, grid in map(solver_and_grid, solver)] if solver else None
    with naming("--solver" if solver else "--calls"):
        best = measure_and_choose(
            loaded, size, calls=calls, candidates=candidates, starts=starts, seed=seed, dtype=kind, device=place
        )
    if as_json:
        emit({
            "model": model, "calls": calls, "solver": repr(best.solver), "grid": best.grid,
            "times": best.times.tolist(), "error": best.error, "rms": best.rms,
            "python": best.python, "command": best.command, "command_error": best.command_error,
            "reference": {"calls": best.reference_calls, "error": best.reference_error},
            "seconds": round(best.seconds, 2),
            "candidates": [row._asdict() for row in best.candidates],
        })  # fmt: skip
        return
    show(best)
    typer.echo(best.python)
    if best.command:
        typer.echo(f"{best.command}  # median {best.command_error:.2e}")
