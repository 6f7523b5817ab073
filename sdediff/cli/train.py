"""`train`: trains a system by a configuration."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.options import BadInput, Device, Json, naming, placed, writable
from sdediff.cli.output import emit

if TYPE_CHECKING:
    from sdediff.datasets import DataSet
    from sdediff.training import Validation
    from sdediff.training.configuration import DataSettings


def train(
    configuration: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or a name: ddpm, vp, edm, ...")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, the model and the log.")],
    data: Annotated[str | None, typer.Option(help="A file, or digits; default: the configuration's.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A file of labels, one a row, where data has none.")] = None,
    updates: Annotated[int | None, typer.Option(min=1, help="Updates, in place of the configuration's.")] = None,
    option: Annotated[list[str] | None, typer.Option("--set", help="section.field=value; repeatable.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, in place of the configuration's.")] = None,
    device: Device = "cpu",
    validate_every: Annotated[
        int | None,
        typer.Option(min=1, help="Updates between figures on held-out rows: loss, gain, gap, bits/dim, samples."),
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="A file of rows for --validate-every; digits have their test images.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option(help="Write scalars and samples for TensorBoard too.")] = False,
    fresh: Annotated[bool, typer.Option(help="Refuse a folder that holds checkpoints.")] = False,
    as_json: Json = False,
) -> None:
    """Train a system: writes checkpoints, log.jsonl and the model's folder; run again it goes on where it was."""
    from sdediff.training import train as run
    from sdediff.training.configuration import read_config

    place, _ = placed(device, None)
    with naming("CONFIG"):
        config = read_config(configuration, _changes(option or (), updates, seed))
        rows = _data(data, labels, config.data)
        model, objective = config.model(rows), config.objective(rows)
    validation = _validation(validate_every, held_out, data or config.data.name, config.data)
    folder = writable(out)
    with naming("train"):
        log = run(
            model, config.rows(rows), config.training, objective, out=folder, resume=not fresh, device=place,
            config=config.plain(), validation=validation, tensorboard=tensorboard,
        )  # fmt: skip
    if log.rank:  # the first of several processes reports
        return
    last = log.losses[-min(len(log.losses), 100) :]
    facts = {
        "config": config.name, "updates": config.training.updates, "first": log.first, "seconds": round(log.seconds, 1),
        "loss": sum(last) / len(last) if last else None, "model": str(folder / "model"),
        "checks": list(log.checks), "peak_memory": log.peak_memory,
    }  # fmt: skip
    if as_json:
        emit(facts)
        return
    loss = f", mean loss of the last {len(last)}: {facts['loss']:.4g}" if last else ""
    typer.echo(f"{config.name}: updates {log.first} to {config.training.updates} in {log.seconds:.0f} s{loss}")
    typer.echo(facts["model"])


def _validation(every: int | None, held_out: str | None, name: str | None, settings: DataSettings) -> Validation | None:
    """What is measured along the way, on the held-out file or on the test images of the package's data."""
    import dataclasses

    from sdediff.training import Validation

    if every is None:
        if held_out is not None:
            raise BadInput("--held-out has no effect alone: give --validate-every too")
        return None
    if held_out is None and name != "digits":
        raise BadInput("--validate-every needs rows that are not trained on: give --held-out FILE")
    rows = _data(held_out or name, None, dataclasses.replace(settings, split="test"))
    return Validation(rows, every)


def _changes(options: Sequence[str], updates: int | None, seed: int | None) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for text in options:
        key, sign, value = text.partition("=")
        if not sign or "." not in key:
            raise BadInput(f"--set: {text!r} is not section.field=value: write such as training.rate=1e-3")
        try:
            changes[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            changes[key] = {"true": True, "false": False}.get(value, value)
    given = {"training.updates": updates, "training.seed": seed}
    return changes | {key: value for key, value in given.items() if value is not None}


def _data(given: str | None, labels: Path | None, settings: DataSettings) -> DataSet:
    """The data set of the command or of the configuration, with labels where they condition the network."""
    import dataclasses

    from sdediff import hub
    from sdediff.datasets import read

    name = given or settings.name
    if name is None:
        raise BadInput("--data: the configuration names no data: give a file, or digits")
    own = None if labels is None else read(labels).x[:, 0]
    if name.partition(":")[0] == "digits" and not Path(name).exists():
        rows = hub.data(name, settings.split)
    else:
        with naming("--data"):
            rows = read(name, settings.levels, settings.file_range, labels=own)
    if settings.labels and rows.labels is None:
        raise BadInput("--labels: the configuration is conditioned on labels, which the data lack: give their file")
    return rows if settings.labels else dataclasses.replace(rows, labels=None)
