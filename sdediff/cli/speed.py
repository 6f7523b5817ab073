"""`speed`: the time of solvers beside the bare network."""

from __future__ import annotations

from typing import Annotated

import typer

from sdediff.cli.model_options import Model, ModelOptions
from sdediff.cli.options import Json, make_solver, naming, sample_shape
from sdediff.cli.output import emit, show


def speed(
    model: Model,
    network: ModelOptions,
    solvers: Annotated[list[str] | None, typer.Option(help="Names, joined by commas.")] = None,
    calls: Annotated[int, typer.Option(min=2, help="Network evaluations a sample, the last included.")] = 20,
    batch: Annotated[int, typer.Option(min=1, help="Samples of a run.")] = 64,
    modes: Annotated[str, typer.Option(help="eager, Sampler (kept between runs), compiled; joined by commas.")] = (
        "eager,Sampler"
    ),
    repeats: Annotated[int, typer.Option(min=1, help="Rounds, in which everything takes its turn.")] = 7,
    shape: Annotated[str | None, typer.Option(help="Of one sample, such as 1,8,8; default: the card's.")] = None,
    as_json: Json = False,
) -> None:
    """Time solvers in turns with as many evaluations of the bare network: milliseconds, ratio, peak memory."""
    from sdediff.benchmark import speeds

    loaded, cond = network.given(network.load(model, None))
    size = sample_shape(loaded, shape)
    names = [name for text in solvers or ("ddim,dpmpp_2m,heun,ancestral",) for name in text.split(",")]
    used = {name: make_solver(name, (), "--solvers", "--solvers") for name in names}
    with naming("--modes"):
        found = speeds(
            loaded, used, (batch, *size), calls, modes=modes.split(","), repeats=repeats, cond=cond
        )  # fmt: skip
    if as_json:
        emit({"model": model, **found.to_dict()})
    else:
        show(found.table())
