"""`import`: a model of another library as a folder of ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.data import data_set
from sdediff.cli.infer import inferred
from sdediff.cli.model_options import Cond, ModelOptions
from sdediff.cli.options import BadInput, Json, Seed, naming, pair, value_of
from sdediff.cli.output import emit, show

if TYPE_CHECKING:
    from sdediff.model.score_model import ScoreModel
    from sdediff.wiring import Inference


def import_model(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder of diffusers, or a checkpoint.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The model folder to write.")],
    kind: Annotated[
        str | None,
        typer.Option(help="diffusers, score_sde, guided_diffusion, k_diffusion or edm; default: as the file looks."),
    ] = None,
    network: Annotated[
        str | None, typer.Option(metavar="MODULE:CLASS", help="The architecture that a checkpoint fills.")
    ] = None,
    argument: Annotated[list[str] | None, typer.Option(help="key=value of the architecture; repeatable.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="key=value that a checkpoint does not hold, as sde=vpsde; repeatable.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Of one sample, such as 3,32,32, if the file has none.")] = None,
    range_: Annotated[str | None, typer.Option("--range", help="low,high of the data, if the file has none.")] = None,
    levels: Annotated[int | None, typer.Option(min=2, help="Number of levels of the data, such as 256.")] = None,
    infer: Annotated[
        str | None, typer.Option(metavar="DATA", help="Find out on these data how the network is wired, and check it.")
    ] = None,
    cond: Cond = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Convert a model of diffusers, score_sde, guided-diffusion, k-diffusion or EDM into a model folder.

    With --infer the settings that a checkpoint lacks are not asked for: the usual wirings are ranked on the data, the
    best is checked, and a folder is written where it is right; exit code 1 where none is.
    """
    import sdediff as sd
    from sdediff._utils.references import import_from_here
    from sdediff.bridges import kind_of

    import_from_here()
    with naming("SOURCE"):
        kind = kind or kind_of(source)
    reader = _reader(kind)
    given = {**(_UNKNOWN.get(kind, {}) if infer else {}), **_values(setting, "--setting")}
    model = _read(reader, kind, source, network, _values(argument, "--argument"), given)
    data, found = _data(shape, range_, levels), None
    if infer is not None:
        model, found, read = _inferred(model, infer, levels, cond, seed)
        data = read | data
    data = {**(model.card.get("data") or {}), **data}
    facts = _facts(model, kind, data)
    if found is None or found.right:
        with naming("--to"):
            facts["folder"] = str(sd.save(model, to, data=data or None))
    if as_json:
        emit(facts if found is None else {**facts, "inference": found.to_dict()})
    else:
        _show(facts, found)
    if found is not None and not found.right:
        raise typer.Exit(1)


def _inferred(
    model: ScoreModel, infer: str, levels: int | None, cond: list[str] | None, seed: int
) -> tuple[ScoreModel, Inference, dict[str, Any]]:
    """The model as it is wired best on data, how the wirings rank, and what the data say of the card."""
    rows = data_set(infer, "test", levels, None, None, None, "--infer")
    found = inferred(model, rows, ModelOptions(cond=cond), seed, "--infer")
    read = {"shape": list(rows.shape), **({} if rows.levels is None else {"levels": rows.levels})}
    return replace(found.model, card={**model.card, **found.model.card}), found, read


def _show(facts: dict[str, Any], found: Inference | None) -> None:
    if found is not None:
        show(found)
    for name, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            typer.echo(f"{name:10}{line}")


# What a reader asks for and an inference finds out: any value, so that the network is filled.
_UNKNOWN: dict[str, dict[str, Any]] = {
    "score_sde": {"sde": "vpsde", "continuous": True},
    "guided_diffusion": {"noise_schedule": "linear", "diffusion_steps": 1000, "rescale_timesteps": False},
}


def _reader(kind: str) -> Callable[..., ScoreModel]:
    from sdediff import bridges
    from sdediff._utils.suggestions import nearest

    if kind not in bridges.KINDS:
        raise BadInput(f"--kind: {nearest(kind, bridges.KINDS, 'kind of model')}")
    reader: Callable[..., ScoreModel] = getattr(bridges, f"from_{kind}")
    return reader


def _values(texts: Sequence[str] | None, flag: str) -> dict[str, Any]:
    """Texts key=value as a dictionary, with numbers, booleans and lists as such."""
    values: dict[str, Any] = {}
    for text in texts or ():
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise BadInput(f"{flag}: {text!r} is not key=value")
        values[key] = {"true": True, "false": False}.get(value.lower(), value_of(value))
    return values


def _read(
    reader: Callable[..., ScoreModel],
    kind: str,
    source: str,
    network: str | None,
    arguments: dict[str, Any],
    settings: dict[str, Any],
) -> ScoreModel:
    """The model that a reader gives, with errors that name the flag at fault."""
    from sdediff._utils.suggestions import nearest

    takes = [name for name in inspect.signature(reader).parameters if name not in ("path", "source", "network")]
    known = [name for name in takes if name not in ("config", "dtype", "device")]
    for key in settings:
        if key not in known:
            said = nearest(key, known, f"setting of {kind}") if known else f"{kind} takes no settings, given {key!r}"
            raise BadInput(f"--setting: {said}")
    if "config" not in takes:
        for flag, given in (("--network", network), ("--argument", arguments)):
            if given:
                raise BadInput(f"{flag}: the network of {kind} is in its folder: leave {flag} out")
        with naming("SOURCE"):
            return reader(source)
    if network is None:
        raise BadInput("--network: a checkpoint holds no architecture: write its class as --network my_package:MyNet")
    with naming("SOURCE"):
        return reader(source, network, config=arguments or None, **settings)


def _data(shape: str | None, range_: str | None, levels: int | None) -> dict[str, Any]:
    """What the options say of the data."""
    given: dict[str, Any] = {"levels": levels, "range": pair(range_, "--range")}
    if shape is not None:
        try:
            given["shape"] = [int(part) for part in shape.split(",")]
        except ValueError:
            given["shape"] = [0]
        if min(given["shape"]) < 1:
            raise BadInput(f"--shape: {shape!r} is not a list of positive integers: write it as 3,32,32")
    return {key: list(v) if isinstance(v, tuple) else v for key, v in given.items() if v is not None}


def _facts(model: ScoreModel, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """What was read, for people and for programs."""
    from sdediff.model.network import parameter_count

    net: Any = model.net
    notes = list(model.card.get("notes") or [])
    package = type(net).__module__.partition(".")[0]
    if package != "sdediff":
        notes.append(f"the folder names code of {package}: load it with --trust {package}")
    if "shape" not in data:
        notes.append("the shape of a sample is not known: write it as --shape")
    if "range" not in data:
        notes.append("the range of the data is not known: write it as --range")
    about = ", ".join(f"{key} {value}" for key, value in data.items())
    return {
        "kind": kind,
        "network": f"{type(net).__name__}, {parameter_count(net):,} parameters, {next(net.parameters()).dtype}",
        "process": repr(model.sde),
        "predicts": model.predicts + (f", sigma_data {model.sigma_data:g}" if "edm" in model.predicts else ""),
        "clock": model.time if isinstance(model.time, str) else repr(model.time),
        "data": about or "not known",
        "note": notes,
    }
