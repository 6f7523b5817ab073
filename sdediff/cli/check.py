"""`check`: is the network wired right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdediff.cli.data import DataOptions
from sdediff.cli.model_options import Model, ModelOptions
from sdediff.cli.options import Json, ModelRange, Seed, naming, with_range
from sdediff.cli.output import emit, show


def check(
    model: Model,
    read: DataOptions,
    network: ModelOptions,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="digits, or a file or folder of data; without, ends alone.")
    ] = None,
    rows: Annotated[int, typer.Option(min=50, help="The most rows on which the network is evaluated.")] = 128,
    model_range: ModelRange = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a picture of the measurement.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure on data whether a network's parametrisation, clock, process and data fit: exit code 1 if not."""
    import sdediff as sd

    (place, kind), loaded = network.placed, network.load(model)
    rows_of_data = None if data is None else read.read(data)
    loaded, given = network.given(loaded, None if rows_of_data is None else len(rows_of_data), rows_of_data)
    named = with_range(loaded, model_range)
    with naming("DATA" if data else "MODEL"):
        report = sd.check(named, rows_of_data, cond=given, rows=rows, seed=seed, dtype=kind, device=place)
    files = {}
    if plot is not None:
        with naming("--plot"):
            files["png"] = str(report.plot(plot))
    if as_json:
        emit({"model": model, "data": data, **report.to_dict(), "files": files})
    else:
        show(report)
        typer.echo("\n".join(files.values())) if files else None
    if report.warning:
        raise typer.Exit(1)
