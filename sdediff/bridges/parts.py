"""The autoencoder and the text encoder of a pipeline of diffusers, from its folder or the object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdediff._utils.errors import MissingPackageError
from sdediff.bridges.autoencoder import AUTOENCODERS, DiffusersAutoencoder, shift_and_scale
from sdediff.bridges.configurations import read_configuration
from sdediff.bridges.errors import BridgeError
from sdediff.bridges.network import FAULTS, check_fit, quiet, read_network, unread
from sdediff.bridges.paired_texts import PairedTexts
from sdediff.bridges.text import TransformersText, transformers

INDEX = "model_index.json"
_SEVERAL = (
    "its text encoders are not read, which are neither one nor the two of Stable Diffusion XL: encode the text by the "
    "pipeline itself, and give its conditions by their names, model.given(encoder_hidden_states=...)"
)


def index_of(folder: Path) -> dict[str, Any]:
    """The parts that model_index.json names, empty without one. BridgeError: a part that is not there.

    A part lies in a folder of its name; the network and the scheduler may lie beside the index instead.
    """
    if not (folder / INDEX).is_file():
        return {}
    index = {
        name: entry
        for name, entry in read_configuration(folder / INDEX).items()
        if isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)
    }
    for name, (_, kind) in index.items():
        if name != "safety_checker" and not (folder / name).is_dir() and not _beside_the_index(folder, name, kind):
            raise BridgeError(f"{folder / INDEX}: it names {name}, and there is no folder {folder / name}")
    return index


def _beside_the_index(folder: Path, name: str, kind: str) -> bool:
    """Whether the pipeline's own folder holds a part: its scheduler, or its one network."""
    if name == "scheduler":
        return (folder / "scheduler_config.json").is_file()
    config = folder / "config.json"
    return config.is_file() and read_configuration(config).get("_class_name") == kind


def folder_parts(folder: Path, dtype: torch.dtype | None) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """The parts of a pipeline's folder as fields of ScoreModel, and facts for its card."""
    index = index_of(folder)
    notes: list[str] = []
    parts: dict[str, nn.Module] = {}
    facts: dict[str, Any] = {}
    config: dict[str, Any] = {}
    if (folder / "vae").is_dir():
        config = read_configuration(folder / "vae" / "config.json")
        facts["latent"] = scaling(config)
        if config.get("_class_name") in AUTOENCODERS:
            parts["autoencoder"] = read_autoencoder(folder / "vae", dtype)
    if "text_encoder_3" in index or ("text_encoder_2" in index and "text_encoder" not in index):
        notes.append(_SEVERAL)
    elif (folder / "text_encoder").is_dir():
        try:
            first = read_text_encoder(folder, dtype)
            parts["text_encoder"] = first
            if "text_encoder_2" in index:
                second = read_text_encoder(folder, dtype, "_2")
                size = _pixels(read_configuration(folder / "unet" / "config.json"), config)
                parts["text_encoder"] = PairedTexts(first, second, size)
        except MissingPackageError as error:
            notes.append(str(error))
    return parts, facts | ({"notes": notes} if notes else {})


def pipeline_parts(pipeline: Any) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """The same of a pipeline in memory."""
    vae = getattr(pipeline, "vae", None)
    parts: dict[str, nn.Module] = {}
    encoder, tokenizer = getattr(pipeline, "text_encoder", None), getattr(pipeline, "tokenizer", None)
    if vae is not None and type(vae).__name__ in AUTOENCODERS:
        parts["autoencoder"] = DiffusersAutoencoder(type(vae).__name__, dict(vae.config), vae)
    second = getattr(pipeline, "text_encoder_2", None)
    notes: list[str] = []
    if getattr(pipeline, "text_encoder_3", None) is not None or (encoder is None and second is not None):
        notes.append(_SEVERAL)
    elif encoder is not None and tokenizer is not None:
        text = TransformersText(tokenizer, encoder)
        if second is None:
            parts["text_encoder"] = text
        else:
            other = TransformersText(pipeline.tokenizer_2, second)
            parts["text_encoder"] = PairedTexts(
                text, other, _pixels(pipeline.unet.config, {} if vae is None else vae.config)
            )
    ready: dict[str, nn.Module] = {name: part.eval().requires_grad_(False) for name, part in parts.items()}
    facts: dict[str, Any] = {} if vae is None else {"latent": scaling(vae.config)}
    return ready, facts | ({"notes": notes} if notes else {})


def _pixels(unet: Any, vae: Any) -> tuple[int, int]:
    """Height and width of the images that a network of diffusers was made for."""
    size, factor = unet.get("sample_size"), 2 ** (len(vae.get("block_out_channels") or [0]) - 1)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if not isinstance(height, int) or not isinstance(width, int):
        raise BridgeError(f"unet/config.json: sample_size={size!r:.60}: write the side of its latents, 128 for SDXL")
    return height * factor, width * factor


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
    network = read_network(name, place, "autoencoder", dtype)
    return DiffusersAutoencoder(name, config, network).eval().requires_grad_(False)


def read_text_encoder(
    folder: Path, dtype: torch.dtype | None = None, which: str = "", **options: Any
) -> TransformersText:
    """The text encoder and the tokenizer in a folder. which: "_2" for the second. options: of TransformersText."""
    package, place, words = transformers(), folder / f"text_encoder{which}", folder / f"tokenizer{which}"
    named = (read_configuration(place / "config.json").get("architectures") or [None])[0]
    kind: Any = getattr(package, named, None) if isinstance(named, str) and named.isidentifier() else None
    known = isinstance(kind, type) and issubclass(kind, package.PreTrainedModel)
    if not known:
        raise BridgeError(f"{place / 'config.json'}: architectures={named!r:.60} is no text encoder of transformers")
    if not words.is_dir():
        raise BridgeError(f"{folder}: it has a {place.name}, and no folder {words.name}: save the tokenizer there too")
    try:
        with quiet(package.utils.logging):
            encoder, report = kind.from_pretrained(
                str(place), use_safetensors=True, local_files_only=True, dtype=dtype or "auto",
                output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except FAULTS as error:
        raise unread(place, "text encoder", error) from error
    check_fit(place, "text encoder", report, ("missing_keys",))
    try:
        with quiet(package.utils.logging):
            tokenizer = package.AutoTokenizer.from_pretrained(str(words), local_files_only=True)
    except FAULTS as error:
        raise unread(words, "tokenizer", error) from error
    _check_vocabulary(tokenizer, words)
    return TransformersText(tokenizer, encoder, where=str(words), **options).eval().requires_grad_(False)


def _check_vocabulary(tokenizer: Any, words: Path) -> None:
    """Refuse a tokenizer without the files of its vocabulary, which would be one of no words."""
    files = [name for key, name in getattr(tokenizer, "vocab_files_names", {}).items() if key != "tokenizer_file"]
    lacking = [name for name in files if not (words / name).is_file()]
    if lacking and not (words / "tokenizer.json").is_file():
        raise BridgeError(f"{words}: it holds neither tokenizer.json nor {lacking[0]}: save the tokenizer there again")
