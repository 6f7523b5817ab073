"""The wrappers that compile a network or spread it over devices, and what is inside of them."""

from __future__ import annotations

from typing import Any

from torch import nn

_SPREAD = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(net: Any) -> Any:
    """A network without torch.compile's and DataParallel's wrappers."""
    while True:
        inner = net.module if isinstance(net, _SPREAD) else getattr(net, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return net
        net = inner


def uncompiled(net: Any) -> Any:
    """A network without torch.compile, whose kernels have neither forward-mode derivatives nor batching rules."""
    inner = getattr(net, "_orig_mod", None)
    return uncompiled(inner) if isinstance(inner, nn.Module) else net
