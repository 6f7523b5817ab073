"""`load`: a model by its name, from a folder or from code."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sdediff._utils.checks import shown, state_device, state_dtype
from sdediff._utils.errors import Error, InputError
from sdediff._utils.references import imported, plugin, plugins, raised
from sdediff.bridges import from_diffusers, is_diffusers_folder
from sdediff.hub import config as configs
from sdediff.hub import weights
from sdediff.hub.embedded import ASSETS
from sdediff.hub.errors import HubError
from sdediff.hub.names import Source, source_of
from sdediff.hub.origin import Origin
from sdediff.hub.parts import read_parts
from sdediff.hub.processes import clock_from, sde_from, section
from sdediff.hub.saving import STATISTICS
from sdediff.hub.trust import trusted_names
from sdediff.model.data_card import DataCard
from sdediff.model.data_statistics import Statistics
from sdediff.model.network import look
from sdediff.model.parts import modules_of
from sdediff.model.prediction import ModelError
from sdediff.model.score_model import ScoreModel, reschedule


class Reader(NamedTuple):
    """A kind of model folder. recognises: whether a folder is one; read: the model, from the folder and `trust`."""

    recognises: Callable[[Path], bool]
    read: Callable[[Path, Collection[str]], ScoreModel]


def load(
    reference: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    trust: Collection[str] = (),
) -> ScoreModel:
    """The model that `reference` names, in eval mode and without gradients.

    reference: a name of `sdediff.models()` or of a plug-in, a folder (`sdediff.save`'s or one of diffusers), "org/name"
    on the Hugging Face hub, or "package.module:factory", a ScoreModel or a function without arguments that returns one.
    device: by default where it is, cpu for files; dtype: of the weights, by default as stored. trust: packages whose
    code a folder may run; code that `reference` itself names needs none. `card` holds its figures and its data's
    description. Raises HubError: unknown names with the nearest ones, damaged, incomplete or foreign files with
    their path, code that fails; TrustError: a folder that names code which is not trusted.
    """
    if not isinstance(reference, str | Path):
        raise InputError(f"{shown(reference)} is no name of a model: give a text such as 'digits-vp', or a folder")
    packages = trusted_names(trust)
    if dtype is not None:
        state_dtype(dtype)
    if device is not None:
        device = state_device(device)
    source = source_of(reference)
    model = _from_code(source) if source.folder is None else read_folder(source.folder, packages)
    for module in (*look(model.net).modules, *modules_of(model)):
        with suppress(NotImplementedError):  # torch.export's modules have one mode alone
            module.eval()
        module.requires_grad_(False)
        if device is not None or dtype is not None:
            module.to(device=device, dtype=dtype)
    card = {**model.card, "name": source.reference} if source.kind == "hub" else model.card
    return replace(model, card=card, origin=Origin(source.reference, packages, source.kind))


def read_folder(folder: Path, trust: Collection[str] = ()) -> ScoreModel:
    """The model of a folder, by the first of READERS that recognises it."""
    try:
        return next(reader for reader in READERS if reader.recognises(folder)).read(folder, trust)
    except (RecursionError, OverflowError, MemoryError) as error:
        raise HubError(f"{folder}: its config.json cannot be read ({raised(error)}): write it again") from error


def _from_code(source: Source) -> ScoreModel:
    """The model that a reference or a plug-in gives."""
    name = source.reference
    try:
        made = imported(name, "model") if source.kind == "code" else plugin("models", plugins("models")[name])
    except InputError as error:
        raise HubError(str(error)) from error
    hint = f"write def {name.rpartition(':')[2]}(): return sd.ScoreModel(net, sd.VP(), ...)"
    if isinstance(made, torch.nn.Module) or (isinstance(made, type) and issubclass(made, torch.nn.Module)):
        raise HubError(f"{name} is a network, whose process and parametrisation are not known: {hint}")
    if callable(made) and not isinstance(made, ScoreModel):
        try:
            made = made()
        except (Exception, SystemExit) as error:
            if isinstance(error, TypeError) and "argument" in str(error):
                raise HubError(f"{name} needs arguments ({error}): it is called without any, {hint}") from error
            reason = str(error) if isinstance(error, Error) else raised(error)
            raise HubError(f"{name}() raised {reason}: mend the function") from error
    if not isinstance(made, ScoreModel):
        raise HubError(f"{name} gives {shown(made)}, a {type(made).__name__}, needed is a ScoreModel: {hint}")
    return made


def _read_own(folder: Path, trust: Collection[str]) -> ScoreModel:
    """The model of a folder that `sdediff.save` wrote."""
    config = configs.read(folder)
    where = folder / "config.json"
    sde = sde_from(config.get("sde"), where, trust)
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
        return replace(reschedule(_read_own(base, trust), sde), card=card)
    trained = config.get("trained")
    path = folder / "model.safetensors"
    stored = weights.header(path)
    make = configs.net_maker(config.get("net"), len(stored.shapes), where, trust)
    fields = _fields(config, where, trust)
    process = sde if trained is None else sde_from(trained, where, trust)
    try:
        model = ScoreModel(torch.nn.Identity(), process, card=card, **fields)
        model = model if trained is None else reschedule(model, sde)
    except (Error, TypeError) as error:
        raise HubError(f"{where}: {error}") from error
    net = weights.fill(make, path, stored, config.get("sha256"))
    return replace(model, net=net, stats=_statistics(folder, config), **read_parts(folder, config))


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


def _fields(config: dict[str, Any], where: Path, trust: Collection[str]) -> dict[str, Any]:
    """The fields of ScoreModel other than its network and process."""
    kinds: dict[str, Any] = {
        "predicts": str, "sigma_data": int | float, "offset": int, "output": str | int | None, "velocity_only": bool,
    }  # fmt: skip
    fields = {key: config[key] for key in kinds if key in config}
    for key, value in fields.items():
        if not isinstance(value, kinds[key]) or (key == "sigma_data" and not value > 0):
            raise HubError(f"{where}: {key}={value!r:.60} is not what a model takes: mend it")
    for key in ("per_sample", "shared"):
        names = config.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise HubError(f"{where}: {key}={names!r:.60}: write a list of names")
        fields[key] = tuple(names)
    return {**fields, "time": clock_from(config["time"], where, trust)} if "time" in config else fields


def _object(config: dict[str, Any], key: str, where: Path) -> dict[str, Any]:
    return section(config.get(key) or {}, key, where)


def _beside(folder: Path, name: str) -> Path:
    if re.fullmatch(r"[\w][\w.-]{0,100}", name):
        for place in (folder.parent / name, ASSETS / name):
            if (place / "config.json").is_file():
                return place
    raise HubError(f"{folder / 'config.json'}: weights_of={name[:100]!r} names no model beside it or in the package")


# The kinds of folders, tried in turn; the last one says what a folder lacks that is none of them.
READERS: list[Reader] = [
    Reader(is_diffusers_folder, lambda folder, trust: from_diffusers(folder)),
    Reader(lambda folder: True, _read_own),
]
