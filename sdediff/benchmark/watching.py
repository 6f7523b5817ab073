"""A network that is watched: how often it is evaluated, and how long that takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sdediff.benchmark.clocks import Clock, clock_of


class WatchedNetwork:
    """Calls a network, counts the rows that it evaluates and marks when it is entered and left."""

    def __init__(self, net: Callable[..., Any], device: torch.device, clock: Clock | None = None) -> None:
        self.net, self.clock = net, clock or clock_of(device)
        self.rows = 0
        self._marks: list[tuple[Any, Any]] = []

    def __call__(self, x: Any, *args: Any, **cond: Any) -> Any:
        began = self.clock.mark()
        out = self.net(x, *args, **cond)
        self._marks.append((began, self.clock.mark()))
        self.rows += len(x)
        return out

    @property
    def seconds(self) -> float:
        """The time spent in the network."""
        return self.clock.total(self._marks)
