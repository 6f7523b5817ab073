"""`adapt`: fits a low-rank adapter of a model's network to data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.data import DATA_HELP, DataOptions
from sdediff.cli.model_options import Model, ModelOptions
from sdediff.cli.options import Json, Seed, naming
from sdediff.cli.output import emit

if TYPE_CHECKING:
    from sdediff.datasets import DataSet
    from sdediff.model.score_model import ScoreModel


def adapt(
    model: Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    network: ModelOptions,
    read: DataOptions,
    out: Annotated[Path, typer.Option(help="The adapter's file, such as style.safetensors.")],
    only: Annotated[int | None, typer.Option(help="Rows with this label alone.")] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of the two matrices of a layer.")] = 4,
    alpha: Annotated[float | None, typer.Option(help="The adapter is scaled by alpha/rank; default: the rank.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Ends of the names of linear layers; default: attention. Repeatable.")
    ] = None,
    updates: Annotated[int, typer.Option(min=1, help="Of the optimiser.")] = 300,
    batch: Annotated[int, typer.Option(min=1, help="Samples an update.")] = 64,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 1e-2,
    weighting: Annotated[str | None, typer.Option(help="Of the objective, as in training.WEIGHTINGS.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit a low-rank adapter (LoRA) of a model's network to data: writes its small file, for --lora.

    Images given to a latent model are encoded.
    """
    import sdediff as sd
    from sdediff.model.network import parameter_count
    from sdediff.training import Objective, TrainingSettings

    loaded, rows = network.load(model), read.read(data)
    if only is not None:
        with naming("--only"):
            rows = rows.labelled(only)
    rows = dataclasses.replace(rows, labels=None)
    loaded, cond = network.given(loaded)
    with naming("adapt"):
        adapted = sd.adapters.add_lora(loaded, rank, alpha=alpha, targets=target or sd.adapters.TARGETS, seed=seed)
        settings = TrainingSettings(
            updates=updates, batch=batch, rate=rate, warmup=min(20, updates - 1), average=0.98, seed=seed
        )
        log = sd.train(
            adapted.given(**(cond or {})), _states(loaded, rows), settings, Objective(weighting),
            device=str(network.placed[0]),
        )  # fmt: skip
    with naming("--out"):
        file = sd.adapters.save_lora(adapted, out)
    counts = [parameter_count(net) for net in (loaded.net, adapted.net)]
    last = log.losses[-min(len(log.losses), 100) :]
    facts = {
        "model": model, "data": data, "rows": len(rows), "updates": updates, "seconds": round(log.seconds, 1),
        "loss": sum(last) / len(last), "weights": counts[1] - counts[0], "share": (counts[1] - counts[0]) / counts[0],
        "file": str(file),
    }  # fmt: skip
    if as_json:
        emit(facts)
    else:
        _show(facts)


def _show(facts: dict[str, Any]) -> None:
    typer.echo(
        f"{facts['updates']} updates on {facts['rows']} rows in {facts['seconds']:.0f} s, mean loss at the end "
        f"{facts['loss']:.4g}"
    )
    typer.echo(f"{facts['weights']:,} weights, {facts['share']:.1%} of the network's")
    typer.echo(facts["file"])


def _states(model: ScoreModel, rows: DataSet) -> Any:
    """What the network is trained on: the rows, or of a latent model the latents of rows that are images."""
    from sdediff.cli.latents import encoded
    from sdediff.model.data_card import DataCard

    if model.autoencoder is None or rows.shape == DataCard.of(model.card).shape:
        return rows
    with naming("DATA"):
        return encoded(model, rows.tensor(range=(-1.0, 1.0)).float())
