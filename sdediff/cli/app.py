"""The commands in their order."""

from __future__ import annotations

from typing import Annotated

import typer

from sdediff.cli.adapt import adapt
from sdediff.cli.bench import bench
from sdediff.cli.check import check
from sdediff.cli.compare import compare
from sdediff.cli.config_file import with_config
from sdediff.cli.conformance import conformance
from sdediff.cli.importing import import_model
from sdediff.cli.infer import infer
from sdediff.cli.jobs import jobs
from sdediff.cli.likelihood import likelihood
from sdediff.cli.lists import models, solvers
from sdediff.cli.option_groups import grouped
from sdediff.cli.recommend import recommend
from sdediff.cli.sample import sample
from sdediff.cli.speed import speed
from sdediff.cli.train import train

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from sdediff import __version__

        print(f"sdediff {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    """Score-based SDEs and ODEs: draw samples, compute likelihoods, compare solvers."""
    if context.invoked_subcommand is None:
        print(context.get_help())


_COMMANDS = (
    solvers, models, sample, likelihood, recommend, bench, speed, compare, train, adapt, check, infer, conformance,
)  # fmt: skip
for command in _COMMANDS:
    app.command()(with_config(grouped(command)))
app.command("import")(with_config(grouped(import_model)))
app.add_typer(jobs, name="jobs")
