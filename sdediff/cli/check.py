"""`check`: is the network wired right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdediff.cli.data import Key, Levels, Range, Split, data_set
from sdediff.cli.model_options import Cond, Model, Trust, conditioned, load_model
from sdediff.cli.options import Device, Dtype, Json, ModelRange, Seed, naming, pair, placed, with_range
from sdediff.cli.output import emit, show


def check(
    model: Model,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="digits, or a file or folder of data; without, ends alone.")
    ] = None,
    split: Split = "test",
    levels: Levels = None,
    range_: Range = None,
    key: Key = None,
    rows: Annotated[int, typer.Option(min=50, help="The most rows on which the network is evaluated.")] = 128,
    cond: Cond = None,
    trust: Trust = None,
    model_range: ModelRange = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a picture of the measurement.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Measure on data whether a network's parametrisation, clock, process and data fit: exit code 1 if not."""
    import sdediff as sd

    place, kind = placed(device, dtype)
    loaded = load_model(model, place, kind, trust)
    rows_of_data = None if data is None else data_set(data, split, levels, pair(range_, "--range"), key, None)
    loaded, given = conditioned(loaded, cond, None if rows_of_data is None else len(rows_of_data), rows_of_data)
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
