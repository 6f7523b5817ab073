"""`from_diffusers`: folders, pipelines and networks of diffusers as a ScoreModel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdediff._utils.checks import shown
from sdediff._utils.files import expanded
from sdediff._utils.suggestions import hint
from sdediff.bridges.configurations import read_configuration
from sdediff.bridges.conventions import NETWORKS, shape_of
from sdediff.bridges.errors import BridgeError
from sdediff.bridges.network import DiffusersNetwork, plain, read_network
from sdediff.bridges.parts import folder_parts, index_of, pipeline_parts
from sdediff.bridges.schedulers import Reading, reading_of
from sdediff.model.clock import Clock
from sdediff.model.parts import modules_of
from sdediff.model.score_model import ScoreModel

_PARTS = ("unet", "transformer")
_SCHEDULER = "scheduler_config.json"
# A network, the scheduler's configuration, the parts beside the network, facts for the card.
_Read = tuple[nn.Module, Mapping[str, Any], dict[str, nn.Module], dict[str, Any]]


def from_diffusers(
    source: str | Path | Any, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> ScoreModel:
    """A model of diffusers as a ScoreModel, its network in eval mode without gradients.

    source: a folder (a pipeline's, or a network's config.json and weights with scheduler_config.json beside them), a
    pipeline, or a pair (network, scheduler). dtype: of the weights, by default as stored. The network's conditions are
    its own keywords, `model.given(class_labels=...)`. What the scheduler says of sampling (clipping, spacing, shift) is
    noted in `model.card["notes"]`, not applied; `scheduler_options` makes its run. The card has the shape of a state.
    A pipeline's autoencoder and text encoder are `model.autoencoder` and `model.text_encoder`. Raises BridgeError: what
    is none of these, parts that are missing or damaged, networks and schedulers that are not known.
    """
    if isinstance(source, str | Path):
        network, scheduler, parts, facts = _of_folder(expanded(source, "the folder"), dtype)
    elif isinstance(source, tuple | list):
        if len(source) != 2:
            raise BridgeError(f"{shown(source)}: give a pair, (network, scheduler)")
        (network, scheduler), parts, facts = (source[0], _config_of(source[1])), {}, {}
    else:
        network, scheduler, parts, facts = _of_pipeline(source)
    model = _model(network, scheduler, parts, facts)
    modules: list[Any] = [model.net, *modules_of(model)]
    for module in modules:
        module.to(device=device, dtype=dtype)
    return model


def is_diffusers_folder(folder: Path) -> bool:
    """Whether a folder is a pipeline of diffusers, or a network of it."""
    if (folder / "model_index.json").is_file() or (folder / _SCHEDULER).is_file():
        return True
    if any((folder / part / "config.json").is_file() for part in _PARTS):
        return True
    try:
        return "_class_name" in read_configuration(folder / "config.json")
    except BridgeError:
        return False


def _model(
    network: nn.Module, scheduler: Mapping[str, Any], parts: dict[str, nn.Module], facts: dict[str, Any]
) -> ScoreModel:
    name, config = type(network).__name__, getattr(network, "config", None)
    if config is None:
        raise BridgeError(f"{name} is no network of diffusers: write sd.ScoreModel(network, process, ...)")
    reading = reading_of(scheduler)
    net = DiffusersNetwork(name, dict(config), network).eval().requires_grad_(False)
    shape = shape_of(name, config, net.convention.axes)
    data = {
        "shape": shape and list(shape),
        "range": None if facts.get("latent") or reading.range is None else list(reading.range),
    }
    card = {
        "data": {key: value for key, value in data.items() if value is not None},
        "about": f"{name} of diffusers with {scheduler.get('_class_name')}.",
        "scheduler": plain(dict(scheduler)) | {"_class_name": scheduler.get("_class_name")},
        **facts,
        "notes": [*reading.notes, *_notes(reading, config), *facts.get("notes", ())],
    }
    return ScoreModel(
        net,
        reading.sde,
        predicts=reading.predicts,
        time=_clock(reading, net.convention.clock),
        sigma_data=reading.sigma_data,
        card=card,
        autoencoder=parts.get("autoencoder"),
        text_encoder=parts.get("text_encoder"),
    )


def _notes(reading: Reading, config: Mapping[str, Any]) -> list[str]:
    if config.get("time_embedding_type") == "fourier" and reading.time == "index":
        return ["the network divides its output by its clock, which is 0 at the first timestep: use stop=2"]
    return []


def _clock(reading: Reading, factor: float) -> Any:
    if factor == 1.0:
        return reading.time
    if not isinstance(reading.time, Clock):
        raise BridgeError(f"the network reads {factor:g} of the timestep, which is known for flows alone")
    return replace(reading.time, scale=reading.time.scale * factor)


def _of_pipeline(pipeline: Any) -> _Read:
    networks = [part for name in _PARTS if isinstance(part := getattr(pipeline, name, None), nn.Module)]
    if not networks or getattr(pipeline, "scheduler", None) is None:
        raise BridgeError(
            f"{shown(pipeline)}: give a folder, a pipeline with a unet or transformer and a scheduler, or a pair "
            "(network, scheduler)"
        )
    return networks[0], _config_of(pipeline.scheduler), *pipeline_parts(pipeline)


def _config_of(scheduler: Any) -> Mapping[str, Any]:
    """The configuration of a scheduler, itself a dictionary or an object."""
    config = scheduler if isinstance(scheduler, Mapping) else getattr(scheduler, "config", None)
    if not isinstance(config, Mapping):
        raise BridgeError(f"{shown(scheduler)} is no scheduler of diffusers: give such as DDIMScheduler()")
    name = config.get("_class_name") if isinstance(scheduler, Mapping) else type(scheduler).__name__
    return {**config, "_class_name": name}


def _of_folder(folder: Path, dtype: torch.dtype | None) -> _Read:
    if not folder.is_dir():
        raise BridgeError(f"{folder}: no such folder")
    index_of(folder)
    places = [folder / part for part in _PARTS if (folder / part / "config.json").is_file()]
    place = places[0] if places else folder
    config = read_configuration(place / "config.json")
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise BridgeError(f"{place / 'config.json'}: no _class_name: give a folder that diffusers wrote")
    scheduler = next((p for p in (folder / "scheduler" / _SCHEDULER, folder / _SCHEDULER) if p.is_file()), None)
    if scheduler is None:
        raise BridgeError(
            f"{folder}: no {_SCHEDULER}, so what the network predicts is not said: save the scheduler there too, "
            "scheduler.save_pretrained(folder)"
        )
    described = read_configuration(scheduler)
    try:
        reading_of(described)  # before the weights are read
    except BridgeError as error:
        raise BridgeError(f"{scheduler}: {error}") from error
    return _network(name, place, dtype), described, *folder_parts(folder, dtype)


def _network(name: str, place: Path, dtype: torch.dtype | None) -> nn.Module:
    if name not in NETWORKS:
        raise BridgeError(f"{place}: the network {name} is not known here{hint(name, NETWORKS)}")
    return read_network(name, place, "network", dtype)
