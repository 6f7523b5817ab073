"""`jobs`: how far a job is, whether its files are whole, and the merging of parts from several folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdediff.cli.config_file import with_config
from sdediff.cli.options import BadInput, Json, naming
from sdediff.cli.output import emit, listed

jobs = typer.Typer(help="Jobs in folders: how far they are, whether they are whole, and merging.")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The --out of a job.")]


@jobs.command()
@with_config
def status(folder: Folder, as_json: Json = False) -> None:
    """Say how far a job is."""
    from sdediff.jobs import job_status

    with naming("DIR"):
        found = job_status(folder)
    if as_json:
        emit(found.to_dict())
        return
    left = "unknown" if found.seconds_left is None else found.seconds_left
    listed(
        ("", found.folder),
        [
            ("work", found.work),
            ("finished", "yes" if found.finished else "no"),
            ("shards", f"{found.shards_done} of {found.shards}"),
            ("units", f"{found.units_done} of {found.units}"),
            ("seconds of computing", found.seconds),
            ("seconds of computing left", left),
        ],
    )


@jobs.command()
@with_config
def verify(folder: Folder, as_json: Json = False) -> None:
    """Compare every file of a job with its hash; exits with 1 where one is damaged."""
    from sdediff.jobs import verify_job

    with naming("DIR"):
        damages = verify_job(folder)
    if as_json:
        emit({"folder": folder, "damages": damages})
    elif not damages:
        typer.echo(f"{folder}: every file is what its hash says")
    if damages:
        raise BadInput("; ".join(damages), 1)


@jobs.command()
@with_config
def merge(
    folder: Folder,
    others: Annotated[
        list[Path] | None, typer.Argument(metavar="OTHER", help="Folders with more of its parts.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the result of a job whose parts are finished, in one folder or in several."""
    from sdediff.jobs import merge_jobs

    with naming("DIR"):
        result = merge_jobs(folder, others or (), lambda line: typer.echo(f"sdediff: {line}", err=True))
    emit({"result": result}) if as_json else typer.echo(result)
