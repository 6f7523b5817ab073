"""Where a model came from and what it is: its name, the code that made its network, and a hash of its weights."""

from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from sdediff._utils.references import package_of
from sdediff.model.network import constants, look
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.model.wrappers import unwrapped


class Origin(NamedTuple):
    """How `load` was called: the reference that names the model again, the trusted packages, and the kind of source."""

    reference: str
    trust: tuple[str, ...]
    kind: str


class Provenance(NamedTuple):
    """Plain values for a manifest.

    reference, trust: for `sdediff.load`, None and () of a model that was made by hand. module: whose code makes the
    network, with the version of its package and the SHA-256 of its source file, None where there is none. weights: one
    SHA-256 of names, types and values of all parameters and buffers, the same on every device; None without any.
    """

    reference: str | None
    trust: tuple[str, ...]
    module: str
    version: str | None
    source: str | None
    weights: str | None


def provenance(model: ScoreModel) -> Provenance:
    """Where a model came from, whose code it is, and a hash of its weights."""
    origin = check_model(model).origin
    named = isinstance(origin, Origin)
    module = str(type(unwrapped(model.net)).__module__)
    if module == "builtins" or not isinstance(model.net, nn.Module):
        module = str(getattr(model.net, "__module__", module))
    if named and origin.kind == "code":
        module = origin.reference.partition(":")[0]
    return Provenance(
        origin.reference if named else None, origin.trust if named else (), module, _version(module),
        _source(module), weights_hash(model),
    )  # fmt: skip


def weights_hash(model: ScoreModel) -> str | None:
    """SHA-256 of every parameter and buffer of the networks that a model reaches, by name."""
    state, count = hashlib.sha256(), 0
    for module in look(model.net).modules:
        plain = unwrapped(module)
        entries = [*plain.named_parameters(remove_duplicate=False), *plain.named_buffers(remove_duplicate=False)]
        entries += [(f"constant {at}", tensor) for at, tensor in enumerate(constants(plain))]
        for name, tensor in sorted(entries, key=lambda entry: entry[0]):
            values = tensor.detach().cpu().contiguous()
            state.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
            state.update(values.reshape(-1).view(torch.uint8).numpy().data)
            count += 1
    return state.hexdigest() if count else None


def _version(module: str) -> str | None:
    """The version of the distribution that holds a module."""
    package = package_of(module)
    own = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(own, str):
        return own
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _source(module: str) -> str | None:
    """SHA-256 of a module's file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return None
