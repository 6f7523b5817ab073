"""`LabelledNetwork`: a network whose third argument, the labels, has no default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class LabelledNetwork(nn.Module):
    """A network that is called (x, clock, class_labels) with None for no labels, as EDM's are; here they are optional.

    network: the module, or what makes it of `config`. Its own class and config are the `config` of this one, so that
    `sd.save` can make it again.
    """

    def __init__(self, network: nn.Module | Callable[..., nn.Module], config: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.network = network if isinstance(network, nn.Module) else network(**(config or {}))
        own = getattr(self.network, "config", None) if config is None else config
        self.config = None if own is None else {"network": type(self.network), "config": dict(own)}

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """The output for states x at clock readings time."""
        output: Tensor = self.network(x, time, class_labels)
        return output
