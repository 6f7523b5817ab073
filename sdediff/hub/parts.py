"""The autoencoder and the text encoder of a latent model, in folders beside its weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sdediff._utils.errors import Error
from sdediff.bridges import DiffusersAutoencoder, TransformersText
from sdediff.bridges.network import quiet
from sdediff.bridges.parts import read_autoencoder, read_text_encoder
from sdediff.bridges.text import transformers
from sdediff.hub.errors import HubError
from sdediff.hub.processes import section
from sdediff.model.score_model import ScoreModel

AUTOENCODER, TEXT = "vae", "text_encoder"  # as in pipelines of diffusers, beside "tokenizer"


def parts_config(model: ScoreModel) -> dict[str, Any]:
    """What config.json says of the parts. HubError: parts that a folder cannot hold."""
    found: dict[str, Any] = {}
    if model.autoencoder is not None:
        if not isinstance(model.autoencoder, DiffusersAutoencoder):
            raise HubError(_foreign("autoencoder", model.autoencoder))
        found["autoencoder"] = model.autoencoder.name
    if model.text_encoder is not None:
        if not isinstance(model.text_encoder, TransformersText):
            raise HubError(_foreign("text_encoder", model.text_encoder))
        found["text_encoder"] = {"name": model.text_encoder.name, "limit": model.text_encoder.limit}
    return found


def write_parts(model: ScoreModel, folder: Path) -> None:
    """Writes the parts as diffusers and transformers do, with safetensors; those of an earlier model are removed."""
    for name in (AUTOENCODER, TEXT, "tokenizer"):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
    if model.autoencoder is not None:
        model.autoencoder.network.save_pretrained(folder / AUTOENCODER, safe_serialization=True)
    if model.text_encoder is not None:
        with quiet(transformers().utils.logging):
            model.text_encoder.encoder.save_pretrained(folder / TEXT)
        model.text_encoder.tokenizer.save_pretrained(folder / "tokenizer")


def read_parts(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The parts that config.json names, as fields of ScoreModel."""
    found: dict[str, Any] = {}
    where = folder / "config.json"
    try:
        if config.get("autoencoder") is not None:
            found["autoencoder"] = read_autoencoder(folder / AUTOENCODER)
        if config.get("text_encoder") is not None:
            said = section(config["text_encoder"], "text_encoder", where)
            name, limit = said.get("name"), said.get("limit")
            if not (isinstance(name, str) and name.isidentifier() and isinstance(limit, int) and limit > 0):
                raise HubError(f"{where}: text_encoder={said!r:.80}: write its name and its limit of tokens")
            found["text_encoder"] = read_text_encoder(folder, name=name, limit=limit)
    except Error as error:
        if isinstance(error, HubError):
            raise
        raise HubError(str(error)) from error
    return found


def _foreign(what: str, part: Any) -> str:
    return (
        f"the model's {what} is a {type(part).__name__}, which a folder does not hold: write a factory (a function of "
        "a module that returns the ScoreModel) and load it as package.module:factory"
    )
