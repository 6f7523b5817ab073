"""Adapters as small files: safetensors of A and B by the layers' names, as diffusers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import number
from sdediff._utils.errors import InputError
from sdediff._utils.files import expanded, read_tensors, whole
from sdediff._utils.hub_files import hub_file, is_hub_id, snapshot
from sdediff.adapters.lora import add_lora, lora_network
from sdediff.adapters.network import ADAPTER
from sdediff.model.score_model import ScoreModel

_METADATA = "lora_adapter_metadata"
# Before a layer's name: what diffusers and peft write, and what wraps a network of diffusers here.
_PREFIXES = ("unet.", "transformer.", "base_model.model.", "network.")
_LARGEST_RANK = 4096
# The file of an adapter in a folder, as diffusers and as peft call it, and where peft says its alpha.
_NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_BESIDE = "adapter_config.json"


def save_lora(model: ScoreModel, file: str | Path) -> Path:
    """Writes a model's adapter, A and B of every layer with rank and alpha, as one safetensors file; returns its path.

    Of a network of diffusers the names and metadata are those that its pipelines load, `pipe.load_lora_weights(file)`.
    """
    from safetensors.torch import save_file

    net, path = lora_network(model, "save_lora"), expanded(file, "the file")
    prefix = "unet." if hasattr(net.network, "convention") else ""
    tensors: dict[str, Tensor] = {}
    layers = []
    for name, layer in net.adapted():
        layers.append(_bare(name))
        for part in ("lora_A", "lora_B"):
            weight = getattr(layer, part)[ADAPTER].weight
            tensors[f"{prefix}{_bare(name)}.{part}.weight"] = weight.detach().cpu().contiguous()
    facts: dict[str, Any] = {"r": net.rank, "lora_alpha": net.alpha, "target_modules": layers}
    metadata = {"format": "pt", _METADATA: json.dumps({f"{prefix}{key}": value for key, value in facts.items()})}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        save_file(tensors, str(unfinished), metadata=metadata)
    return path


def load_lora(model: ScoreModel, file: str | Path, scale: float = 1.0) -> ScoreModel:
    """The model with the adapter of a file, what it adds multiplied by scale; the model given is not changed.

    file: of `save_lora`, diffusers or peft, a folder with one, or on the Hugging Face hub "org/name" or
    "org/name/file.safetensors". Raises InputError: a file that is none, layers that the network has not, matrices of
    other shapes, a scaling other than alpha/rank.
    """
    path = _place(file)
    parts, facts = _read(path)
    ranks = {int(a.shape[0]) for a, _ in parts.values()}
    if len(ranks) != 1 or not 1 <= min(ranks) <= _LARGEST_RANK:
        raise InputError(f"{path}: its layers have the ranks {sorted(ranks)}: one rank for all is read")
    rank = ranks.pop()
    alpha = facts.get("lora_alpha", rank)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise InputError(f"{path}: lora_alpha={alpha!r:.60}: write a number")
    try:
        adapted = add_lora(model, rank, alpha=float(alpha), targets=tuple(parts))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    net = lora_network(adapted, "load_lora")
    layers = {_bare(name): layer for name, layer in net.adapted()}
    lacking = [name for name in parts if name not in layers]
    if lacking:
        raise InputError(f"{path}: the network has no layer {lacking[0]} ({len(lacking)} such): it is of another one")
    with torch.no_grad():
        for name, matrices in parts.items():
            for part, value in zip(("lora_A", "lora_B"), matrices, strict=True):
                weight = getattr(layers[name], part)[ADAPTER].weight
                if weight.shape != value.shape:
                    raise InputError(f"{path}: {name}.{part} is {tuple(value.shape)}, needed {tuple(weight.shape)}")
                weight.copy_(value)
    net.requires_grad_(False).scale_by(number("scale", scale))
    return adapted


def _place(file: str | Path) -> Path:
    """The adapter's file that a path or a name of the hub means."""
    path = expanded(file, "the adapter")
    if not path.exists() and isinstance(file, str):
        named = hub_file(file)
        if named is not None:
            path = snapshot(named[0], [named[1], _BESIDE]) / named[1]
        elif is_hub_id(file) and not file.endswith(".safetensors"):
            path = snapshot(file, [*_NAMES, _BESIDE])
    if not path.is_dir():
        return path
    held = [path / name for name in _NAMES if (path / name).is_file()]
    if not held:
        raise InputError(f"{file}: it holds neither {_NAMES[0]} nor {_NAMES[1]}: give the file itself")
    return held[0]


def _bare(name: str) -> str:
    """A layer's name without what libraries write before it."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _read(path: Path) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Any]]:
    """A and B by the layer's name, and the metadata without prefixes."""
    if not path.is_file():
        raise InputError(f"{path}: no such file: give the adapter's safetensors file")
    tensors, metadata = read_tensors(path)
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        layer, dot, part = name.removesuffix(".weight").rpartition(".")
        if not dot or part not in ("lora_A", "lora_B") or value.ndim != 2 or not bool(value.isfinite().all()):
            raise InputError(f"{path}: {name} is no finite matrix lora_A or lora_B of a linear layer")
        found.setdefault(_bare(layer), {})[part] = value
    lacking = [name for name, halves in found.items() if len(halves) < 2]
    if lacking or not found:
        raise InputError(f"{path}: {'no lora_A and lora_B' if not found else f'{lacking[0]} lacks one of its two'}")
    return {name: (halves["lora_A"], halves["lora_B"]) for name, halves in found.items()}, _facts(path, metadata)


def _facts(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """What the file's metadata, or peft's configuration beside it, says of rank, alpha and scaling."""
    where, text, beside = f"its {_METADATA}", metadata.get(_METADATA), path.with_name(_BESIDE)
    try:
        if text is None and beside.is_file():
            where, text = _BESIDE, beside.read_text(encoding="utf-8")
        facts = json.loads("{}" if text is None else text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {where} is not JSON ({error}): copy or download it again") from error
    plain = {str(key).rpartition(".")[2]: value for key, value in facts.items()} if isinstance(facts, dict) else {}
    for name in ("use_rslora", "use_dora", "alpha_pattern"):
        if plain.get(name):
            raise InputError(f"{path}: {where} says {name}={plain[name]!r:.60}, which is not read: known is alpha/rank")
    return plain
