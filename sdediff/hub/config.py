"""config.json: read and checked; a network as its class and constructor arguments, and back."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdediff._utils.references import raised
from sdediff.hub.errors import HubError
from sdediff.hub.processes import class_name, registered, section
from sdediff.hub.trust import trusted_object
from sdediff.hub.values import decode, encode
from sdediff.nets import NETS

FORMAT = 1
_LARGEST = 16 << 20  # bytes of a config.json; a table of a million training timesteps needs less


def net_config(net: Any, given: Any = None) -> dict[str, Any]:
    """A network's class and constructor arguments: `given`, its `config`, or none where its class takes none.

    HubError: what is no module of an importable class, and a class whose arguments are not said.
    """
    if not isinstance(net, nn.Module):
        name = getattr(net, "__name__", type(net).__name__)
        raise HubError(f"the network {name} is no nn.Module: save the module itself, or write a factory (a function of "
                       "a module that returns the ScoreModel) and load it as package.module:factory")  # fmt: skip
    kind = type(net)
    if isinstance(net, torch.jit.ScriptModule | torch.fx.GraphModule):
        raise HubError(f"a {kind.__name__} (traced, scripted or exported) has no constructor: save the module that it "
                       "was made from, or write a factory and load it as package.module:factory")  # fmt: skip
    name = kind.__name__ if NETS.get(kind.__name__) is kind else class_name(kind, "networks")
    arguments = given if given is not None else getattr(net, "config", None)
    parameters = [] if kind.__init__ is nn.Module.__init__ else list(inspect.signature(kind).parameters.values())
    if arguments is None and not parameters:
        arguments = {}
    if not isinstance(arguments, Mapping):
        names = ", ".join(f"{p.name!r}: ..." for p in parameters if p.kind is not p.VAR_KEYWORD) or "..."
        raise HubError(
            f"the constructor arguments of {kind.__name__} are not known: write sd.save(model, folder, "
            f"config={{{names}}}), or give the class an attribute config that holds them"
        )
    # Libraries keep facts of their own beside the arguments, under names that begin with an underscore.
    plain = {key: value for key, value in dict(arguments).items() if not str(key).startswith("_")}
    try:
        inspect.signature(kind).bind(**plain)
    except TypeError as error:
        raise HubError(f"config: {kind.__name__} does not take these arguments ({error}): mend them") from error
    return {"class": name, "config": {key: encode(value, f"config[{key!r}]") for key, value in plain.items()}}


def net_maker(config: Any, tensors: int, where: Path | str, trust: Collection[str] = ()) -> Callable[[], nn.Module]:
    """A function that builds the network of a config; `tensors`, the number in its weights, bounds its blocks."""
    given = section(config, "net", where)
    name = str(given.get("class"))
    kind = NETS.get(name) or registered(name, "networks", "network", nn.Module, NETS, where, trust)
    arguments = section(given.get("config", {}), "net.config", where)
    if name in NETS:
        for key, value in arguments.items():
            size = len(value) if isinstance(value, list) else value if key == "blocks" else 0
            if isinstance(size, int) and size > tensors:
                raise HubError(f"{where}: {key}={value!r:.60} needs more than the {tensors} tensors of the weights")
    else:
        objects = functools.partial(trusted_object, what="argument", kind=None, where=where, trust=trust)
        arguments = {key: decode(value, str(where), objects) for key, value in arguments.items()}

    def make() -> nn.Module:
        try:
            return kind(**arguments)
        except Exception as error:  # a class of the user's may raise anything
            if isinstance(error, HubError):
                raise
            raise HubError(f"{where}: the network {name} cannot be made ({raised(error)}): mend net.config") from error

    return make


def read(folder: Path) -> dict[str, Any]:
    """A folder's config.json, its format checked. HubError: missing, too large, not JSON, of another format."""
    path = folder / "config.json"
    if not path.is_file():
        raise HubError(f"{path}: no such file: a model folder holds config.json and model.safetensors")
    if path.stat().st_size > _LARGEST:
        raise HubError(f"{path}: {path.stat().st_size} bytes, more than a config can need: write it again")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HubError(f"{path}: cannot be read as JSON ({error}): write it again with sdediff.save") from error
    config = section(config, "the file", path)
    if config.get("format") != FORMAT:
        raise HubError(f"{path}: format {config.get('format')!r:.60}, this version reads {FORMAT}: save it again")
    return config
