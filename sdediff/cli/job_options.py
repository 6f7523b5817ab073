"""What the commands that run as jobs share: engines, parts, and errors in one line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sdediff.cli.options import BadInput

PartOf = Annotated[str | None, typer.Option(metavar="I/N", help="Part I of N, from 0/N: shards I modulo N.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes that compute, a GPU each if any.")]
EngineName = Annotated[str | None, typer.Option(help="local, workers or ray.")]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster, such as auto.")]

# Arguments of jobs whose errors begin with their name, as "part=8/8: ...", and the flags that they come from.
_FLAGS = {"part": "--part", "workers": "--workers", "engine": "--engine", "address": "--address"}


@contextmanager
def job_errors(folder: Path, what: str) -> Iterator[None]:
    """Errors of a job, as one line each, which names the flag at fault; `what` where it is the input."""
    from sdediff.jobs import JobError, Stopped

    try:
        yield
    except JobError as error:
        text = str(error)
        name = text.partition("=")[0].partition(":")[0]
        flag = "--out" if text.startswith(str(folder)) else _FLAGS.get(name)
        raise BadInput(f"{flag}: {text}" if flag else text) from error
    except Stopped as stop:
        command = shlex.join(["sdediff", *sys.argv[1:]])
        raise BadInput(f"interrupted: {stop}; go on with: {command}", stop.code) from stop
    except (ValueError, TypeError) as error:
        raise BadInput(f"{what}: {error}") from error
