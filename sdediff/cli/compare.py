"""`compare`: two results of `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdediff.cli.options import Json, naming
from sdediff.cli.output import emit, show


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="The folder of a sweep: --out of bench.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The folder of a later one.")],
    level: Annotated[float, typer.Option(help="Probability of any false change among all comparisons.")] = 0.01,
    as_json: Json = False,
) -> None:
    """What changed between two results of bench, beyond the noise; exit code 1 where anything is worse."""
    from sdediff.benchmark import Report
    from sdediff.benchmark import compare as compared

    sides = []
    for name, folder in (("A", a), ("B", b)):
        with naming(name):
            sides.append(Report.load(folder))
    with naming("--level"):
        found = compared(*sides, level=level)
    if as_json:
        emit(found.to_dict())
    else:
        if found.regressions or found.improvements:
            show(found.table())
        for name, keys in (("A", found.only_in_a), ("B", found.only_in_b)):
            if keys:
                typer.echo(f"only in {name}: {', '.join(sorted({f'{key[0]} {key[2]}' for key in keys}))}")
        typer.echo(str(found))
    if found.regressions:
        raise typer.Exit(1)
