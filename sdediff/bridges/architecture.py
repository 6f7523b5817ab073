"""Networks that checkpoints fill: given as a module, as a class with its arguments, or by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdediff._utils.checks import shown
from sdediff._utils.references import imported, is_reference
from sdediff.bridges.errors import BridgeError

Network = nn.Module | Callable[..., nn.Module] | str


def network_of(given: Any, config: Mapping[str, Any] | None) -> nn.Module:
    """The network to fill: a module, a class or function, or "module:Class", called with `config` as keywords.

    A class's instance keeps `config`, so that `sd.save` can make it again. Raises BridgeError: what gives no module.
    """
    if isinstance(given, nn.Module):
        if config:
            raise BridgeError("config= has no effect on a network that is made already: leave it out")
        return given
    maker = imported(given, "network") if is_reference(given) else given
    if not callable(maker):
        raise BridgeError(
            f"network={shown(given)}: the architecture is not in the file, give a module or its class as module:Class"
        )
    try:
        network = maker(**(config or {}))
    except Exception as error:  # code of the user's, which may raise anything
        reason = (str(error).splitlines() or [""])[0]
        raise BridgeError(
            f"network={shown(given)} raised {type(error).__name__} ({reason}): give its arguments as config="
        ) from error
    if not isinstance(network, nn.Module):
        raise BridgeError(f"network={shown(given)} gave {type(network).__name__}, needed: a torch.nn.Module")
    if isinstance(maker, type) and not hasattr(network, "config"):
        network.config = dict(config or {})  # type: ignore[assignment]
    return network


def filled(network: nn.Module, weights: Mapping[str, Any], where: Path | str) -> nn.Module:
    """The network with weights by name in it, in their dtype; eval mode, no gradients.

    Names may begin with "module." throughout, as of DataParallel. Raises BridgeError naming what does not fit.
    """
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if not tensors or len(tensors) < len(weights):
        raise BridgeError(f"{where}: no dictionary of weights by name")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    need = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    faults = [f"missing {name}" for name in need if name not in tensors]
    faults += [f"extra {name}" for name in tensors if name not in need]
    faults += [
        f"{name} is {tuple(value.shape)}, needed {need[name]}"
        for name, value in tensors.items()
        if name in need and tuple(value.shape) != need[name]
    ]
    if faults:
        more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise BridgeError(f"{where}: not the weights of this {type(network).__name__}: {'; '.join(faults[:4])}{more}")
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise BridgeError(f"{where}: NaN or infinity in {bad[0]} ({len(bad)} such tensors): take an earlier file")
    dtypes = {value.dtype for value in tensors.values() if value.is_floating_point()}
    network.to(dtypes.pop() if len(dtypes) == 1 else torch.float32)
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def asked(library: str, **flags: Any) -> None:
    """Refuse, in one sentence, settings that a checkpoint does not hold and that were not given (None)."""
    missing = [name for name, value in flags.items() if value is None]
    if missing:
        raise BridgeError(
            f"checkpoints of {library} do not hold {', '.join(missing)}: write what the network was trained with, "
            + ", ".join(f"{name}=..." for name in missing)
        )


def card_of(
    library: str, path: Path | str, network: nn.Module, data: dict[str, Any], notes: list[str]
) -> dict[str, Any]:
    """The card of a model that was read from a checkpoint."""
    name = type(network).__name__
    about = f"{name}, read from {Path(path).name} of {library}."
    return {"about": about, "data": {key: value for key, value in data.items() if value is not None}, "notes": notes}


def as_range(given: Any) -> list[float] | None:
    """The range of the data, low and high, or None where it is not said."""
    if given is None:
        return None
    try:
        low, high = (float(end) for end in given)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise BridgeError(f"range={shown(given)}: write two rising numbers, such as (-1, 1)")
    return [low, high]
