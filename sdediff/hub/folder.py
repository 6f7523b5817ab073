"""Model folders: `save`, `load`, and the models and data inside the package."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdediff._utils.checks import known
from sdediff._utils.suggestions import meant
from sdediff.bridges import from_diffusers, is_diffusers_folder
from sdediff.datasets import DataSet
from sdediff.hub import config as configs
from sdediff.hub import weights
from sdediff.hub.card import readme, summary
from sdediff.hub.errors import HubError
from sdediff.model.data_card import DataCard
from sdediff.model.data_statistics import Statistics
from sdediff.model.prediction import ModelError
from sdediff.model.score_model import ScoreModel, check_model, reschedule

STATISTICS = "statistics.safetensors"
ASSETS = Path(__file__).parents[1] / "assets"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_DATA = {"digits": ("digits.npz", 17)}


def save(
    model: ScoreModel,
    folder: str | Path,
    card: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> Path:
    """Writes a model folder: config.json, model.safetensors, README.md (the card), statistics. Returns its path.

    card: figures to keep (anything JSON holds), by default the model's own. data: what the states are:
    name, levels, range, shape. An earlier model there is replaced; a folder of other things is refused.
    """
    check_model(model)
    folder = Path(folder).expanduser()
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "config.json").is_file())):
        raise HubError(f"{folder}: holds something other than a model: give a new or empty folder")
    if model.changes:
        raise HubError("a folder holds a plain model: save it before it is clipped, thresholded or guided")
    if not isinstance(model.time, str):
        raise HubError("a model whose clock is a function cannot be saved: name it (t, index, lam, sigma, ...)")
    card = model.card if card is None else card
    data = card.get("data") if data is None else data
    written: dict[str, Any] = {
        "format": configs.FORMAT,
        "sde": configs.sde_config(model.sde),
        "trained": None if model.trained is None else configs.sde_config(model.trained),
        "predicts": model.predicts,
        "time": model.time,
        "sigma_data": model.sigma_data,
        "offset": model.offset,
        "velocity_only": model.velocity_only,
        "net": configs.net_config(model.net),
        "data": data,
        "card": {key: value for key, value in card.items() if key not in ("data", "name")},
    }
    _text(folder, written)  # refuses values that JSON cannot hold before the folder is changed
    folder.mkdir(parents=True, exist_ok=True)
    written["sha256"] = weights.write(model.net.state_dict(), folder / "model.safetensors")  # type: ignore[attr-defined]
    if model.stats is not None:
        written["statistics_sha256"] = weights.write(model.stats.state(), folder / STATISTICS)
    write_config(folder, written)
    return folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes config.json and the README.md that it implies."""
    (folder / "config.json").write_text(_text(folder, config), encoding="utf-8")
    (folder / "README.md").write_text(readme(folder.name, config), encoding="utf-8")


def _text(folder: Path, config: dict[str, Any]) -> str:
    try:
        return json.dumps(config, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise HubError(f"{folder}: the card or data cannot be written as JSON ({error}): use plain values") from error


def load(name: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> ScoreModel:
    """The model of that name: one inside the package, a folder, or "org/name" on the Hugging Face hub.

    Its network is in eval mode and needs no gradient; `card` holds its figures and its data's description.
    dtype: of the weights, by default as stored. Raises HubError: unknown names with the nearest ones,
    damaged, incomplete or foreign files with their path.
    """
    folder = _folder(str(name))
    if is_diffusers_folder(folder):
        return from_diffusers(folder, device=device, dtype=dtype)
    model = _load(folder)
    model.net.to(device=device, dtype=dtype)  # type: ignore[attr-defined]
    return model


def _load(folder: Path) -> ScoreModel:
    config = configs.read(folder)
    where = folder / "config.json"
    sde = configs.sde_from(config.get("sde"), where)
    card = {**_object(config, "card", where), "name": folder.name, "data": config.get("data")}
    _object(config, "data", where)
    try:
        DataCard.of(card)
    except ModelError as error:
        raise HubError(f"{where}: {error}") from error
    if config.get("weights_of") is not None:
        base = _beside(folder, str(config["weights_of"]))
        if configs.read(base).get("weights_of") is not None:
            raise HubError(
                f"{where}: weights_of names {base.name!r}, which has no weights of its own: name the model that has"
            )
        return replace(reschedule(_load(base), sde), card=card)
    trained = config.get("trained")
    path = folder / "model.safetensors"
    shapes = weights.header(path)
    make = configs.net_maker(config.get("net"), len(shapes), where)
    fields = _fields(config, where)
    process = sde if trained is None else configs.sde_from(trained, where)
    try:
        model = ScoreModel(torch.nn.Identity(), process, card=card, **fields)
        model = model if trained is None else reschedule(model, sde)
    except (ModelError, TypeError) as error:
        raise HubError(f"{where}: {error}") from error
    net = weights.fill(make, path, shapes, config.get("sha256"))
    return replace(model, net=net, stats=_statistics(folder, config))


def _statistics(folder: Path, config: dict[str, Any]) -> Statistics | None:
    """The data's statistics, or None where the folder has none."""
    if config.get("statistics_sha256") is None:
        return None
    path = folder / STATISTICS
    weights.header(path)
    try:
        return Statistics.of(weights.read(path, config["statistics_sha256"]))
    except (KeyError, ValueError) as error:
        raise HubError(
            f"{path}: not the statistics of a data set ({error}): make them anew with sd.statistics"
        ) from error


def _fields(config: dict[str, Any], where: Path) -> dict[str, Any]:
    """The fields of ScoreModel other than its network and process."""
    kinds: dict[str, Any] = {
        "predicts": str,
        "time": str,
        "sigma_data": int | float,
        "offset": int,
        "velocity_only": bool,
    }
    fields = {key: config[key] for key in kinds if key in config}
    for key, value in fields.items():
        if not isinstance(value, kinds[key]) or (key == "sigma_data" and not value > 0):
            raise HubError(f"{where}: {key}={value!r} is not what a model takes: mend it")
    return fields


def _object(config: dict[str, Any], key: str, where: Path) -> dict[str, Any]:
    given = config.get(key) or {}
    if not isinstance(given, dict):
        raise HubError(f"{where}: {key} must be an object with named fields, given {type(given).__name__}")
    return given


def _beside(folder: Path, name: str) -> Path:
    if re.fullmatch(r"[\w][\w.-]*", name):
        for place in (folder.parent / name, ASSETS / name):
            if (place / "config.json").is_file():
                return place
    raise HubError(f"{folder / 'config.json'}: weights_of={name!r} names no model beside it or in the package")


def _folder(name: str) -> Path:
    if name in _embedded():
        return ASSETS / name
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise HubError(f"{name}: a file: give the folder that holds config.json and model.safetensors")
    if not _HUB_ID.fullmatch(name):
        raise HubError(f"no model {name!r}, nor a folder of that name: {meant(name, _embedded())}")
    try:
        from huggingface_hub import snapshot_download  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise HubError(f"{name}: no such folder; to fetch it from the hub: pip install huggingface_hub") from error
    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", "*.safetensors"]))
    except Exception as error:  # the hub's client raises many kinds; each means the same here
        reason = str(error).strip().split("\n")[0]
        raise HubError(f"{name}: no such folder, and the hub does not give it ({reason}): check the name") from error


def _embedded() -> list[str]:
    return sorted(path.parent.name for path in ASSETS.glob("*/config.json"))


def models() -> dict[str, dict[str, Any]]:
    """The models inside the package: name -> a summary of its card (process, predicts, bits/dim, ...)."""
    return {name: summary(configs.read(ASSETS / name)) for name in _embedded()}


def data(name: str = "digits", split: str = "test") -> DataSet:
    """A data set inside the package: "digits", 8x8 images (N, 1, 8, 8) of 17 levels, 3823 train, 1797 test."""
    if not known(name, _DATA):
        raise HubError(f"no data set {name!r} in the package: {meant(name, _DATA)}")
    if not known(split, ("train", "test")):
        raise HubError(f"no split {split!r} of {name}: {meant(split, ('train', 'test'))}")
    file, levels = _DATA[name]
    with np.load(ASSETS / file, allow_pickle=False) as stored:
        images, labels = stored[f"{split}_images"], stored[f"{split}_labels"]
    return DataSet(images[:, None], levels, (0, levels - 1), labels, f"{name}:{split}")
