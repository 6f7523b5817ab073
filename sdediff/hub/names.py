"""What MODEL may be: a name in the package, a plug-in's, a folder, a hub id, or package.module:factory."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import NamedTuple

from sdediff._utils.errors import InputError, NameWarning
from sdediff._utils.files import expanded
from sdediff._utils.hub_files import is_hub_id, snapshot
from sdediff._utils.references import is_reference, plugins
from sdediff._utils.suggestions import meant
from sdediff.hub.embedded import ASSETS, embedded_names
from sdediff.hub.errors import HubError

# What a model is read from: weights in folders of parts or by the libraries' names, and what tokenizers are made of.
_FILES = (
    "*.json", "*/*.safetensors", "model*.safetensors", "diffusion_pytorch_model*.safetensors", "statistics.safetensors",
    "*.txt", "*.model",
)  # fmt: skip
_LEFT = ("*.fp16*", "*.bf16*", "*non_ema*", "safety_checker/*")  # copies of weights, and a part that nothing here runs


class Source(NamedTuple):
    """Where a model comes from. kind: embedded, plugin, folder, hub or code; reference: the text that names it again
    from any folder of this machine; folder: where its files are, None for code."""

    kind: str
    reference: str
    folder: Path | None = None


def source_of(name: str | Path, depth: int = 3) -> Source:
    """The source that a name means. HubError: unknown names with the nearest ones, and files that are no folder.

    A name of the package or of a plug-in is that; where a folder of the same name lies here, a NameWarning says
    how to write that. depth: frames up to the caller that the warning names.
    """
    text = str(name)
    folder = expanded(text, "the model")
    kind = _registered(text) if isinstance(name, str) else None
    if kind is not None:
        if folder.is_dir():
            owner = "the package" if kind == "embedded" else "an installed plug-in"
            warnings.warn(
                f"{text!r} is a model of {owner}, and a folder of that name lies here: the model of {owner} is taken, "
                f"write ./{text} for the folder",
                NameWarning,
                stacklevel=depth,
            )
        return Source(kind, text, ASSETS / text if kind == "embedded" else None)
    if folder.is_dir():
        return Source("folder", str(folder.resolve()), folder)
    if folder.is_file():
        raise HubError(f"{text}: a file: give the folder that holds config.json and model.safetensors")
    if is_reference(text):
        return Source("code", text)
    if is_hub_id(text):
        return Source("hub", text, _snapshot(text))
    names = [*embedded_names(), *plugins("models")]
    near = meant(text, names) if len(text) < 200 else f"write one of {', '.join(names)}"
    raise HubError(f"no model {text[:200]!r}, nor a folder of that name: {near}")


def _registered(text: str) -> str | None:
    if not re.fullmatch(r"[\w.-]{1,100}", text):
        return None
    return "embedded" if text in embedded_names() else "plugin" if text in plugins("models") else None


def _snapshot(name: str) -> Path:
    try:
        return snapshot(name, _FILES, _LEFT)
    except InputError as error:
        raise HubError(str(error)) from error
