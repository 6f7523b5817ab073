"""`recommend`: the best solver and grid for a model and a number of network evaluations."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from sdediff.cli.model_options import Model, ModelOptions, StatisticsOf
from sdediff.cli.options import Check, Json, naming, sample_shape, solver_and_grid
from sdediff.cli.output import emit, show
from sdediff.cli.recommended import recommended

if TYPE_CHECKING:
    from sdediff.analysis import Recommendation


def recommend(
    model: Model,
    network: ModelOptions,
    calls: Annotated[int, typer.Option(min=2, help="Network evaluations a sample, the last included.")] = 10,
    solver: Annotated[list[str] | None, typer.Option(help="Choose among these; repeatable.")] = None,
    starts: Annotated[int, typer.Option(min=1, max=65536, help="Initial states to measure the best on.")] = 256,
    shape: Annotated[str | None, typer.Option(help="Of one sample, such as 1,8,8; default: the card's.")] = None,
    statistics: StatisticsOf = None,
    check: Check = True,
    refresh: Annotated[bool, typer.Option(help="Measure again in place of reading what is kept.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**64 - 1, help="Of the initial states; default: those of --solver auto.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure solvers and grids on a model: prints a table, and the best as Python and as a command."""
    loaded, given_cond = network.given(network.load(model, statistics))
    size = sample_shape(loaded, shape)
    candidates = [(name, grid) if grid else name for name, grid in map(solver_and_grid, solver)] if solver else None
    with naming("--solver" if solver else "--calls"):
        best = recommended(
            model, loaded, size, calls, candidates=candidates, starts=starts, seed=seed, cond=given_cond,
            refresh=refresh, check=check,
        )  # fmt: skip
    given = [("--shape", shape), ("--statistics", statistics), *network.typed]
    commands = _typed(best, model, not solver and seed is None and starts == 256, given)
    if as_json:
        emit({
            "model": model, "calls": calls, "solver": repr(best.solver), "grid": best.grid,
            "times": best.times.tolist(), "error": best.error, "rms": best.rms,
            "python": best.python, "commands": commands,
            "reference": {"calls": best.reference_calls, "error": best.reference_error},
            "seconds": round(best.seconds, 2), "of": best.of,
            "candidates": [row._asdict() for row in best.candidates],
        })  # fmt: skip
        return
    show(best)
    typer.echo(best.python)
    for command, error in commands.items():
        typer.echo(f"{command}  # median {error:.2e}")


def _typed(best: Recommendation, model: str, default: bool, given: list[tuple[str, str | None]]) -> dict[str, float]:
    """Commands and the median errors of the rows that they stand for.

    Auto takes the best row where it would ask the same question; given: options that the commands must repeat.
    """
    name = shlex.quote(model)
    rest = "".join(f" {flag} {shlex.quote(value)}" for flag, value in given if value is not None)
    commands = {}
    if default:
        commands[f"sdediff sample {name} --solver auto --calls {best.calls}{rest}"] = best.error
    if best.command is not None and best.command_error is not None:
        options = best.command.partition(" --solver ")[2]
        commands[f"sdediff sample {name} --solver {options}{rest}"] = best.command_error
    return commands
