"""`save`: a model as a folder of plain values and safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sdediff._utils.checks import mapping
from sdediff._utils.files import expanded
from sdediff.hub import config as configs
from sdediff.hub import weights
from sdediff.hub.card import readme
from sdediff.hub.errors import HubError
from sdediff.hub.parts import parts_config, write_parts
from sdediff.hub.processes import clock_config, sde_config
from sdediff.hub.trust import OURS
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.model.wrappers import unwrapped

STATISTICS = "statistics.safetensors"


def save(
    model: ScoreModel,
    folder: str | Path,
    card: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a model folder: config.json, model.safetensors, README.md (the card), statistics. Returns its path.

    The network is any nn.Module whose class can be imported. config: its constructor arguments, by default its
    attribute `config`; numbers, texts, lists, dtypes, classes. card: figures to keep (anything JSON holds), by default
    the model's own. data: what the states are: name, levels, range, shape. An autoencoder and a text encoder of the
    bridges are written beside the network. An earlier model there is replaced; a folder of other things is refused.
    Raises HubError: what a folder cannot hold, with what to write instead.
    """
    model = check_model(model)
    folder = expanded(folder, "the folder")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "config.json").is_file())):
        raise HubError(f"{folder}: holds something other than a model: give a new or empty folder")
    if model.changes:
        raise HubError("a folder holds a plain model: save it before it is clipped, thresholded or guided")
    if model.cond:
        raise HubError(
            f"the model carries the conditions {', '.join(model.cond)}, which a folder does not hold: save it without, "
            "and give cond= where it is used"
        )
    card, data = _card_and_data(model, card, data, config)
    network = unwrapped(model.net)
    written: dict[str, Any] = {
        "format": configs.FORMAT,
        "sde": sde_config(model.sde),
        "trained": None if model.trained is None else sde_config(model.trained),
        "predicts": model.predicts,
        "time": clock_config(model.time),
        "sigma_data": model.sigma_data,
        "offset": model.offset,
        **_further(model),
        **parts_config(model),
        "net": configs.net_config(network, config),
        "data": data,
        "card": {key: value for key, value in card.items() if key not in ("data", "name")},
    }
    _text(folder, written)  # refuses values that JSON cannot hold before the folder is changed
    _check_rebuilt(written["net"], network)
    folder.mkdir(parents=True, exist_ok=True)
    written["sha256"] = weights.write_module(network, folder / "model.safetensors")
    if model.stats is not None:
        written["statistics_sha256"] = weights.write(model.stats.state(), folder / STATISTICS)
    write_parts(model, folder)
    write_config(folder, written)
    return folder


def _card_and_data(model: ScoreModel, card: Any, data: Any, config: Any) -> tuple[dict[str, Any], Any]:
    """The card, by default the model's, and what it says of the data, unless given; refuses what is no dict."""
    for name, value in (("card", card), ("data", data), ("config", config)):
        if value is not None:
            mapping(name, value, f"{name}={{}}")
    card = model.card if card is None else card
    return card, card.get("data") if data is None else data


def _further(model: ScoreModel) -> dict[str, Any]:
    """Fields that most models leave at their default."""
    output = {"output": model.output} if model.output is not None else {}
    fields = {"per_sample": list(model.per_sample), "shared": list(model.shared), "velocity_only": model.velocity_only}
    return {key: value for key, value in fields.items() if value} | output


def _check_rebuilt(config: dict[str, Any], net: nn.Module) -> None:
    """Refuse arguments that make another network than this one."""
    trust = (type(net).__module__.partition(".")[0], *_packages(config))
    make = configs.net_maker(config, len(net.state_dict()), "config", trust)
    need = weights.shapes_of(make)
    have = weights.shapes_of(lambda: net)
    if need is not None and need != have:
        names = sorted({*need, *(have or {})}, key=lambda name: (need.get(name) == (have or {}).get(name), name))
        given, made = (have or {}).get(names[0]), need.get(names[0])
        raise HubError(
            f"config: these arguments make another network: {names[0]} would be {made or 'absent'}, it is "
            f"{given or 'absent'} here: give those that this {type(net).__name__} was made with"
        )


def _packages(config: Any) -> list[str]:
    """The packages of the classes and functions among the arguments, which are here already."""
    if isinstance(config, list):
        return [name for part in config for name in _packages(part)]
    if not isinstance(config, dict):
        return []
    named = config.get("object")
    own = [named.partition(".")[0].partition(":")[0]] if isinstance(named, str) else []
    return [OURS, *own, *(name for part in config.values() for name in _packages(part))]


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes config.json and the README.md that it implies."""
    (folder / "config.json").write_text(_text(folder, config), encoding="utf-8")
    (folder / "README.md").write_text(readme(folder.name, config), encoding="utf-8")


def _text(folder: Path, config: dict[str, Any]) -> str:
    try:
        return json.dumps(config, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise HubError(f"{folder}: the card or data cannot be written as JSON ({error}): use plain values") from error
