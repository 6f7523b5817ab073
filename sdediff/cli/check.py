"""`check`: is the network wired right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sdediff.cli.data import Key, Levels, Range, Split, data_set
from sdediff.cli.options import BadInput, Device, Dtype, Json, ModelRange, Seed, naming, pair, placed, with_range
from sdediff.cli.output import emit, show


def check(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of `sdediff models`, a folder, or a hub id.")],
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="digits, or a file or folder of data; without, ends alone.")
    ] = None,
    split: Split = "test",
    levels: Levels = None,
    range_: Range = None,
    key: Key = None,
    rows: Annotated[int, typer.Option(min=50, help="The most rows on which the network is evaluated.")] = 128,
    cond: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A condition: labels (of DATA), a file with a row a sample; repeatable."
        ),
    ] = None,
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
    with naming("MODEL"):
        loaded = sd.load(model, place, kind)
    rows_of_data = None if data is None else data_set(data, split, levels, pair(range_, "--range"), key, None)
    given = _conditions(cond or (), rows_of_data)
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


def _conditions(texts: Any, data: Any) -> dict[str, Any]:
    """Conditions from texts such as label=labels, context=rows.npy or scale=2."""
    from sdediff.cli.options import value_of
    from sdediff.datasets import read

    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise BadInput(f"--cond: {text!r} is not name=value: write such as label=labels")
        if value == "labels":
            if data is None or data.labels is None:
                raise BadInput("--cond: DATA has no labels: give a file with a row a sample")
            found[name] = data.labels
        elif Path(value).suffix:
            with naming("--cond"):
                rows = read(value).x
                found[name] = rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 1 else rows
        else:
            found[name] = value_of(value)
    return found
