"""`from_edm`: network pickles of NVlabs/edm and edm2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sdediff._utils.checks import number
from sdediff.bridges.architecture import Network, card_of, filled, network_of
from sdediff.bridges.checkpoints import read_checkpoint
from sdediff.bridges.errors import BridgeError
from sdediff.bridges.labels import LabelledNetwork
from sdediff.bridges.pickles import Record
from sdediff.model.clock import Clock
from sdediff.model.score_model import ScoreModel
from sdediff.sde.processes import EDM, VE, VP
from sdediff.sde.table import Table

# The class around the network, and what it calls the network. EDM2's are the last.
_WRAPPERS = {
    "VPPrecond": "model",
    "VEPrecond": "model",
    "iDDPMPrecond": "model",
    "EDMPrecond": "model",
    "Precond": "unet",
}


def from_edm(
    path: str | Path,
    network: Network,
    *,
    which: str = "ema",
    config: dict[str, Any] | None = None,
) -> ScoreModel:
    """A network pickle of EDM as a ScoreModel, read without running the code in it. Karras et al. 2022, 2024.

    network: the architecture inside of the preconditioning (SongUNet, DhariwalUNet), a module, or a class or
    "module:Class" called with `config`, by default the arguments that the file keeps. The preconditioning is read off
    the file: "edm" with its sigma_data; eps under VP at the clock (M - 1) t; -eps under VE on the raw states at the
    clock log(sigma/2); eps on the table of iDDPM. which: the network of the pickle. The condition
    class_labels is one-hot, (B, label_dim). Raises BridgeError: files that are no such pickle.
    """
    stored = read_checkpoint(path)
    outer = stored.get(which) if isinstance(stored, dict) else None
    name, state = _object(outer)
    if name not in _WRAPPERS or state is None:
        raise BridgeError(
            f"{path}: no network of EDM under {which!r}: needed is one of {', '.join(_WRAPPERS)}, as its pickles hold"
        )
    inner = _entries(state.get("_modules")).get(_WRAPPERS[name])
    inner_name, inner_state = _object(inner)
    if inner_state is None:
        raise BridgeError(f"{path}: {name} without its {_WRAPPERS[name]}: damaged, copy or download it again")
    given = {**_arguments(state), **{key: value for key, value in state.items() if isinstance(value, int | float)}}
    process, predicts, time, data = _READINGS[name](given, state)
    kept = None if config is not None or isinstance(network, nn.Module) else _plain(inner_state)
    module = network_of(network, config if kept is None else kept)
    filled(module, _weights(inner_state), path)
    size, channels, labels = (given.get(key) for key in ("img_resolution", "img_channels", "label_dim"))
    shape = [channels, size, size] if isinstance(size, int) and isinstance(channels, int) else None
    notes = [f"class_labels is one-hot of {labels}: model.given(class_labels=...)"] if labels else []
    card = card_of(f"EDM ({name} of {inner_name})", path, module, {"shape": shape, "range": [-1.0, 1.0]}, notes)
    return ScoreModel(LabelledNetwork(module).eval(), process, predicts, time, data, card=card)


def _object(value: Any) -> tuple[str, dict[str, Any] | None]:
    """The class's name and the state of an object, of the library's own way to pickle or of the usual one."""
    if not isinstance(value, Record):
        return type(value).__name__, None
    if value.name.endswith("persistence._reconstruct_persistent_obj") and value.args:
        meta = _entries(value.args[0])
        return str(meta.get("class_name")), _entries(meta.get("state"))
    return value.name.rpartition(".")[2], value.state if isinstance(value.state, dict) else None


def _entries(value: Any) -> dict[str, Any]:
    """A dictionary, or the entries of a record of a class of dictionaries."""
    if isinstance(value, Record):
        return {**(value.state if isinstance(value.state, dict) else {}), **value.pairs}
    return value if isinstance(value, dict) else {}


def _arguments(state: Mapping[str, Any]) -> dict[str, Any]:
    return _entries(state.get("_init_kwargs"))


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that an object was made with, where all were given by name."""
    if state.get("_init_args"):
        raise BridgeError("the file keeps arguments without names: give those of the network as config=")
    return _arguments(state)


def _weights(state: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """The state dictionary of a module by its state, those of the modules in it included."""
    left_out = state.get("_non_persistent_buffers_set") or ()
    names = left_out.args[0] if isinstance(left_out, Record) and left_out.args else left_out
    skipped = set(map(str, names)) if isinstance(names, set | list | tuple) else set()
    weights = {}
    for kind in ("_parameters", "_buffers"):
        for name, value in _entries(state.get(kind)).items():
            if isinstance(value, Tensor) and not (kind == "_buffers" and name in skipped):
                weights[prefix + str(name)] = value
    for name, part in _entries(state.get("_modules")).items():
        inside = _object(part)[1]
        if inside is not None:
            weights |= _weights(inside, f"{prefix}{name}.")
    return weights


def _of(given: Mapping[str, Any], name: str, default: float) -> float:
    return number(name, given.get(name, default))


def _edm(given: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Any, ...]:
    return EDM(), "edm", "c_noise", _of(given, "sigma_data", 0.5)


def _vp(given: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Any, ...]:
    """x0 = x - sigma F at x/sqrt(1 + sigma^2): eps in VP's own states."""
    least = _of(given, "beta_min", 0.1)
    sde = VP(least, least + _of(given, "beta_d", 19.9), t_min=_of(given, "epsilon_t", 1e-5))
    return sde, "eps", Clock("t", _of(given, "M", 1000) - 1), 1.0


def _ve(given: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Any, ...]:
    """x0 = x + sigma F at the raw x, with the clock log(sigma/2) = 4 c_noise - log 2."""
    sde = VE(_of(given, "sigma_min", 0.02), _of(given, "sigma_max", 100.0))
    return sde, "-eps", Clock("c_noise", 4, -math.log(2)), 1.0


def _iddpm(given: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Any, ...]:
    """eps on the table of sigmas u_0 > ... > u_M = 0 that the file keeps, with the clock M - 1 - j."""
    u = _entries(state.get("_buffers")).get("u")
    if not isinstance(u, Tensor) or u.ndim != 1 or len(u) < 3:
        raise BridgeError("iDDPMPrecond without its table u: damaged, copy or download it again")
    lams = (-u.double()[:-1].flip(0).log()).tolist()
    return Table(tuple(lams)), "eps", "index", 1.0


_READINGS = {"VPPrecond": _vp, "VEPrecond": _ve, "iDDPMPrecond": _iddpm, "EDMPrecond": _edm, "Precond": _edm}
