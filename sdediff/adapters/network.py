"""`LoraNetwork`: a network with low-rank adapters beside some of its linear layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sdediff._utils.checks import number, whole
from sdediff._utils.errors import InputError, MissingPackageError

# The projections of an attention layer, in our U-Net and in those of diffusers.
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
ADAPTER = "default"  # peft's own name for the first one


class LoraNetwork(nn.Module):
    """A network whose linear layers named by `targets` compute W x + scale (alpha/rank) B A x; B starts as 0.

    network: a module, which is copied and shares its weights, or what makes it of `config`. rank: rows of A; alpha: by
    default the rank; targets: the ends of the layers' names. The base is frozen; A (rank, d_in) and B (d_out, rank)
    are trained. Hu et al. 2021, section 4.1. Raises InputError where no layer has such a name.
    """

    def __init__(
        self,
        network: nn.Module | Callable[..., nn.Module],
        config: dict[str, Any] | None = None,
        rank: int = 4,
        alpha: float | None = None,
        targets: Sequence[str] = TARGETS,
    ) -> None:
        super().__init__()
        base = shared_copy(network) if isinstance(network, nn.Module) else network(**(config or {}))
        own = getattr(base, "config", None) if config is None else config
        rank = whole("rank", rank, 1)
        alpha = float(rank) if alpha is None else number("alpha", alpha)
        names = [n for n, m in base.named_modules() if isinstance(m, nn.Linear) and _ends(n, targets)]
        if not names:
            said = ", ".join(list(targets)[:4])
            raise InputError(f"targets {said}: {type(base).__name__} has no linear layer of such a name")
        self.config: dict[str, Any] | None = None
        if own is not None:
            self.config = {
                "network": type(base), "config": dict(own), "rank": rank, "alpha": alpha, "targets": list(targets),
            }  # fmt: skip
        self.rank, self.alpha, self.targets = rank, alpha, tuple(targets)
        self.network = peft().inject_adapter_in_model(
            peft().LoraConfig(r=rank, lora_alpha=alpha, target_modules=names), base
        )

    def forward(self, x: Tensor, *args: Any, **cond: Any) -> Tensor:
        """The output of the network, with its adapters."""
        output: Tensor = self.network(x, *args, **cond)
        return output

    def adapted(self) -> Iterator[tuple[str, Any]]:
        """The layers that have an adapter, by name."""
        kind = peft().tuners.lora.LoraLayer
        return ((name, module) for name, module in self.network.named_modules() if isinstance(module, kind))

    def scale_by(self, scale: float) -> None:
        """Multiply what the adapters add, in this network."""
        for _, layer in self.adapted():
            layer.set_scale(ADAPTER, number("scale", scale))

    def without(self, scale: float = 0.0) -> nn.Module:
        """The network without adapters; scale: W + scale (alpha/rank) B A in their place, in tensors of its own."""
        bare = shared_copy(self.network)
        for name, layer in self.adapted():
            owner, _, last = name.rpartition(".")
            plain = shared_copy(layer.base_layer)
            if scale:
                with torch.no_grad():
                    delta = layer.get_delta_weight(ADAPTER) * (scale / layer.scaling[ADAPTER]) * self.alpha / self.rank
                    plain.weight = nn.Parameter(plain.weight + delta.to(plain.weight), False)
            setattr(bare.get_submodule(owner), last, plain)
        return bare


def peft() -> Any:
    """The package peft. MissingPackageError where it is not installed."""
    try:
        import peft as package
    except ImportError as error:
        raise MissingPackageError("low-rank adapters need peft: pip install 'sdediff[bridges]'") from error
    return package


def shared_copy(module: nn.Module) -> nn.Module:
    """The module in eval mode, its parts made anew around the same numbers, none of which needs a gradient."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), False) for p in module.parameters()}
    memo.update({id(b): b for b in module.buffers()})
    return copy.deepcopy(module, memo).eval()


def _ends(name: str, targets: Sequence[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)
