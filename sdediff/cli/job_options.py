"""What the commands that run as jobs share: engines, parts, the estimate of a dry run, and errors in one line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.options import BadInput
from sdediff.cli.output import emit, listed

if TYPE_CHECKING:
    from sdediff.jobs import Estimate
    from sdediff.jobs.launching import Launch

PartOf = Annotated[str | None, typer.Option(metavar="I/N", help="Part I of N, from 0/N: shards I modulo N.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes that compute, a GPU each if any.")]
EngineName = Annotated[str | None, typer.Option(help="local, workers or ray.")]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster, such as auto.")]

# Arguments of jobs whose errors begin with their name, as "part=8/8: ...", and the flags that they come from.
_FLAGS = {
    "part": "--part", "workers": "--workers", "engine": "--engine", "address": "--address", "shard": "--shard",
    "micro_batch": "--micro-batch", "num_threads": "--threads", "draws": "--draws",
}  # fmt: skip


@dataclass(frozen=True)
class JobOptions:
    """The options that say how a job runs."""

    micro_batch: Annotated[int | None, typer.Option(min=1, help="Samples that the network sees at once.")] = None
    shard: Annotated[int | None, typer.Option(min=1, help="Samples that are written together.")] = None
    skip_failed: Annotated[bool, typer.Option(help="Go on in spite of samples on which the network failed.")] = False
    part: PartOf = None
    workers: Workers = None
    engine: EngineName = None
    address: Address = None
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads of torch.")] = None
    dry_run: Annotated[bool, typer.Option(help="Say what the job would take, from one micro-batch; no more.")] = False

    @property
    def any(self) -> bool:
        """Whether one of them was given."""
        return self != JobOptions()

    def arguments(self, micro_batch: int) -> dict[str, Any]:
        """The keywords of `likelihood_job` and `sample_job`. micro_batch: where none was given."""
        return {
            "micro_batch": self.micro_batch or micro_batch, "shard": self.shard, "skip_failed": self.skip_failed,
            "part": self.part, "workers": self.workers, "engine": self.engine, "address": self.address,
            "num_threads": self.threads,
        }  # fmt: skip

    def launch(self, out: Path, micro_batch: int) -> Launch:
        """The same, checked, of a job that is not begun yet."""
        from sdediff.jobs.launching import Launch

        arguments = self.arguments(micro_batch)
        return Launch.of(out, keep=arguments.pop("skip_failed"), progress=None, say=None, **arguments)


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


def print_estimate(found: Estimate, as_json: bool) -> None:
    """What a job will take, as a table or as JSON."""
    if as_json:
        emit(found.to_dict())
        return
    listed(
        ("", "estimated from one micro-batch"),
        [
            ("samples", found.units),
            ("samples a shard", found.shard),
            ("shards", found.shards),
            ("samples that the network sees at once", found.micro_batch),
            ("seconds a sample", found.unit_seconds),
            ("seconds of computing", found.seconds),
            (f"seconds with {found.slots} at once", found.elapsed),
            ("megabytes of results", found.bytes / 1e6),
        ],
    )
