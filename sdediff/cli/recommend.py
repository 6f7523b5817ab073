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
    from torch import Tensor

    from sdediff.analysis import Recommendation
    from sdediff.model.score_model import ScoreModel


def recommend(
    model: Model,
    network: ModelOptions,
    calls: Annotated[int, typer.Option(min=2, help="Network evaluations a sample, the last included.")] = 10,
    solver: Annotated[list[str] | None, typer.Option(help="Choose among these; repeatable.")] = None,
    starts: Annotated[int, typer.Option(min=1, max=65536, help="Initial states to measure the best on.")] = 256,
    shape: Annotated[str | None, typer.Option(help="Of one sample, such as 1,8,8; default: the card's.")] = None,
    statistics: StatisticsOf = None,
    by: Annotated[
        str, typer.Option(help="both (median and rms of the error), median, q90, rms, or distance to --data.")
    ] = "both",
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="What samples of MODEL follow: digits, or a file or folder.")
    ] = None,
    check: Check = True,
    refresh: Annotated[bool, typer.Option(help="Measure again in place of reading what is kept.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**64 - 1, help="Of the initial states; default: those of --solver auto.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure solvers and grids on a model: prints a table, and the best as Python and as a command."""
    from sdediff.analysis.measuring import check_by

    loaded, given_cond = network.given(network.load(model, statistics))
    size = sample_shape(loaded, shape)
    candidates = [(name, grid) if grid else name for name, grid in map(solver_and_grid, solver)] if solver else None
    rows = None if data is None else _rows(loaded, data)
    with naming("--by"):
        check_by(by)
    with naming("--data" if by == "distance" and rows is None else "--solver" if solver else "--calls"):
        best = recommended(
            model, loaded, size, calls, candidates=candidates, starts=starts, seed=seed, cond=given_cond,
            refresh=refresh, check=check, by=by, data=rows,
        )  # fmt: skip
    given = [("--shape", shape), ("--statistics", statistics), *network.typed]
    usual = not solver and seed is None and starts == 256 and by == "both" and data is None
    commands = _typed(best, model, usual, given)
    if as_json:
        emit({
            "model": model, "calls": calls, "solver": repr(best.solver), "grid": best.grid,
            "times": best.times.tolist(), "error": best.error, "rms": best.rms, "by": best.by,
            "python": best.python, "commands": commands,
            "reference": {"calls": best.reference_calls, "error": best.reference_error},
            "seconds": round(best.seconds, 2), "of": best.of,
            "candidates": [row._asdict() for row in best.candidates],
        })  # fmt: skip
        return
    show(best)
    typer.echo(best.python)
    for command, error in commands.items():
        typer.echo(command if error is None else f"{command}  # median {error:.2e}")


def _rows(model: ScoreModel, data: str) -> Tensor:
    """The data as states of the network, at most as many as are compared."""
    from sdediff.jobs.names import named_data
    from sdediff.model.data_card import DataCard

    with naming("--data"):
        found, bounds = named_data(data), DataCard.of(model.card).bounds
        rows: Tensor = found.dequantised(range=bounds) if found.levels is not None else found.tensor(range=bounds)
    return rows


def _typed(
    best: Recommendation, model: str, default: bool, given: list[tuple[str, str | None]]
) -> dict[str, float | None]:
    """Commands and the median errors of the rows that they stand for.

    Auto takes the best row where it would ask the same question; given: options that the commands must repeat.
    """
    name = shlex.quote(model)
    rest = "".join(f" {flag} {shlex.quote(value)}" for flag, value in given if value is not None)
    commands: dict[str, float | None] = {}
    if default:
        commands[f"sdediff sample {name} --solver auto --calls {best.calls}{rest}"] = best.error
    if best.command is not None:
        options = best.command.partition(" --solver ")[2]
        commands[f"sdediff sample {name} --solver {options}{rest}"] = best.command_error
    return commands
