"""The autoencoder and the text encoder of a pipeline of diffusers, from its folder or the object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from sdediff._utils.errors import MissingPackageError
from sdediff.bridges.autoencoder import AUTOENCODERS, DiffusersAutoencoder, shift_and_scale
from sdediff.bridges.configurations import read_configuration
from sdediff.bridges.errors import BridgeError
from sdediff.bridges.network import library
from sdediff.bridges.text import TransformersText, quiet, transformers

INDEX = "model_index.json"
# What reading weights raises where they are damaged, missing or of another shape.
FAULTS = (SafetensorError, OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, NotImplementedError)


def index_of(folder: Path) -> dict[str, Any]:
    """The parts that model_index.json names, empty without one. BridgeError: a part whose folder is not there."""
    if not (folder / INDEX).is_file():
        return {}
    index = {
        name: entry
        for name, entry in read_configuration(folder / INDEX).items()
        if isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)
    }
    for name in index:
        if name != "safety_checker" and not (folder / name).is_dir():
            raise BridgeError(f"{folder / INDEX}: it names {name}, and there is no folder {folder / name}")
    return index


def folder_parts(folder: Path, dtype: torch.dtype | None) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """The parts of a pipeline's folder as fields of ScoreModel, and facts for its card."""
    index, notes = index_of(folder), []
    parts: dict[str, nn.Module] = {}
    facts: dict[str, Any] = {}
    if (folder / "vae").is_dir():
        config = read_configuration(folder / "vae" / "config.json")
        facts["latent"] = scaling(config)
        if config.get("_class_name") in AUTOENCODERS:
            parts["autoencoder"] = read_autoencoder(folder / "vae", dtype)
    if "text_encoder_2" in index or "text_encoder_3" in index:
        notes.append("it has several text encoders, whose conditions are given by their names: sd.ScoreModel.given")
    elif (folder / "text_encoder").is_dir():
        try:
            parts["text_encoder"] = read_text_encoder(folder, dtype)
        except MissingPackageError as error:
            notes.append(str(error))
    return parts, facts | ({"notes": notes} if notes else {})


def pipeline_parts(pipeline: Any) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """The same of a pipeline in memory."""
    vae, parts = getattr(pipeline, "vae", None), {}
    encoder, tokenizer = getattr(pipeline, "text_encoder", None), getattr(pipeline, "tokenizer", None)
    if vae is not None and type(vae).__name__ in AUTOENCODERS:
        parts["autoencoder"] = DiffusersAutoencoder(type(vae).__name__, dict(vae.config), vae)
    if encoder is not None and tokenizer is not None and getattr(pipeline, "text_encoder_2", None) is None:
        parts["text_encoder"] = TransformersText(tokenizer, encoder)  # type: ignore[assignment]
    ready: dict[str, nn.Module] = {name: part.eval().requires_grad_(False) for name, part in parts.items()}
    return ready, {} if vae is None else {"latent": scaling(vae.config)}


def scaling(vae: Any) -> dict[str, float]:
    """What states are to the autoencoder: z = (encoded - shift_factor) scaling_factor."""
    keys = ("scaling_factor", "shift_factor")
    return {key: vae[key] for key in keys if isinstance(vae.get(key), int | float)}


def read_autoencoder(place: Path, dtype: torch.dtype | None = None) -> DiffusersAutoencoder:
    """The autoencoder of a folder. BridgeError: another class, no scaling_factor, weights that do not fit."""
    config, where = read_configuration(place / "config.json"), str(place / "config.json")
    name = str(config.get("_class_name"))
    if name not in AUTOENCODERS:
        raise BridgeError(f"{where}: _class_name {name!r:.60} is none of {', '.join(AUTOENCODERS)}")
    shift_and_scale(config, where)
    try:
        network = getattr(library(), name).from_pretrained(
            str(place), use_safetensors=True, local_files_only=True, torch_dtype=dtype, low_cpu_mem_usage=False
        )
    except FAULTS as error:
        raise _unread(place, "autoencoder", error) from error
    return DiffusersAutoencoder(name, config, network).eval().requires_grad_(False)


def read_text_encoder(folder: Path, dtype: torch.dtype | None = None, **options: Any) -> TransformersText:
    """The text encoder and the tokenizer in a folder. options: name and limit of TransformersText."""
    package, place = transformers(), folder / "text_encoder"
    named = (read_configuration(place / "config.json").get("architectures") or [None])[0]
    kind: Any = getattr(package, named, None) if isinstance(named, str) and named.isidentifier() else None
    known = isinstance(kind, type) and issubclass(kind, package.PreTrainedModel)
    if not known:
        raise BridgeError(f"{place / 'config.json'}: architectures={named!r:.60} is no text encoder of transformers")
    if not (folder / "tokenizer").is_dir():
        raise BridgeError(f"{folder}: it has a text_encoder, and no folder tokenizer: save the tokenizer there too")
    try:
        with quiet():
            encoder, report = kind.from_pretrained(
                str(place), use_safetensors=True, local_files_only=True, dtype=dtype or "auto", output_loading_info=True
            )
    except FAULTS as error:
        raise _unread(place, "text encoder", error) from error
    missing = sorted(map(str, report.get("missing_keys") or []))
    if missing:
        raise BridgeError(f"{place}: no weights of {missing[0]} ({len(missing)} such): copy or download it again")
    try:
        tokenizer = package.AutoTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
    except FAULTS as error:
        raise _unread(folder / "tokenizer", "tokenizer", error) from error
    return TransformersText(tokenizer, encoder, where=str(folder / "tokenizer"), **options).eval().requires_grad_(False)


def _unread(place: Path, what: str, error: Exception) -> BridgeError:
    reason = " ".join((str(error).strip() or type(error).__name__).split())[:300]
    return BridgeError(f"{place}: the {what} cannot be read ({reason}): copy or download it again")
