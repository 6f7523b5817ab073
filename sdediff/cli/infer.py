"""`infer`: how a network may be wired, by trying the usual ways on data."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdediff.cli.data import DATA_HELP, DataOptions
from sdediff.cli.model_options import ModelOptions
from sdediff.cli.options import BadInput, Json, Seed, naming
from sdediff.cli.output import emit, show

if TYPE_CHECKING:
    from sdediff.datasets import DataSet
    from sdediff.model.score_model import ScoreModel
    from sdediff.wiring import Inference


def infer(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="package.module:network, or a model whose network is taken.")
    ],
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    read: DataOptions,
    using: ModelOptions,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Write the model there if it is right.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Rank the usual wirings of a network on data and check the best one: exit code 1 if none is right."""
    rows = read.read(data)
    found = inferred(_network(network, using), rows, using, seed, "NETWORK")
    files = {}
    if to is not None and found.right:
        with naming("--to"):
            files["folder"] = str(saved(found, to, list(rows.shape), rows.levels))
    if as_json:
        emit({"network": network, "data": data, **found.to_dict(), "files": files})
    else:
        show(found)
        typer.echo("\n".join(files.values())) if files else None
    if not found.right:
        raise typer.Exit(1)


def inferred(
    model: ScoreModel,
    rows: DataSet,
    using: ModelOptions,
    seed: int,
    flag: str,
) -> Inference:
    """The wirings of a model's network on data, ranked, and the best one checked."""
    import sdediff as sd

    place, kind = using.placed
    model, given = using.given(model, len(rows), rows)
    with naming(flag):
        return sd.infer(model, rows, cond=given, seed=seed, dtype=kind, device=place)


def saved(found: Inference, to: Path, shape: list[int], levels: int | None) -> Path:
    """The folder of the model, with the shape of its data."""
    import sdediff as sd

    about = {**(found.model.card.get("data") or {}), "shape": shape}
    return sd.save(found.model, to, data=about if levels is None else {**about, "levels": levels})


def _network(name: str, using: ModelOptions) -> ScoreModel:
    """A model around the network that a reference names: itself, what a factory or class without arguments gives, or
    the network of a model."""
    import torch

    import sdediff as sd
    from sdediff._utils.references import import_from_here, imported, is_reference

    if not is_reference(name):
        return using.load(name, flag="NETWORK")
    if using.lora is not None:
        raise BadInput("--lora: a network by reference has none: give a model, or leave it out")
    import_from_here()
    with naming("NETWORK"):
        found = imported(name, "network")
        found = found() if isinstance(found, type) or _without_arguments(found) else found
        if isinstance(found, torch.nn.Module):
            found = found.to(*using.placed).eval()
        return found if isinstance(found, sd.ScoreModel) else sd.ScoreModel(found, sd.VP())


def _without_arguments(found: object) -> bool:
    """Whether a function is a factory: it takes no arguments, where a network takes states and a clock."""
    return inspect.isfunction(found) and not inspect.signature(found).parameters
