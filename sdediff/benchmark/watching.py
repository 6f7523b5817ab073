"""Networks that are watched: how often they are evaluated, and how long that takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from sdediff.benchmark.clocks import Clock, clock_of


class NetworkWatch:
    """Counts the rows that networks evaluate and marks when they are entered and left."""

    def __init__(self, device: torch.device, clock: Clock | None = None) -> None:
        self.clock = clock or clock_of(device)
        self.rows = 0
        self._marks: list[tuple[Any, Any]] = []

    def wrap(self, net: Callable[..., Any]) -> Callable[..., Any]:
        """The network, watched: one of several where a model evaluates others beside its own."""
        return functools.partial(self._evaluated, net)

    def _evaluated(self, net: Callable[..., Any], x: Any, *args: Any, **cond: Any) -> Any:
        began = self.clock.mark()
        out = net(x, *args, **cond)
        self._marks.append((began, self.clock.mark()))
        self.rows += len(x)
        return out

    @property
    def seconds(self) -> float:
        """The time spent in the networks."""
        return self.clock.total(self._marks)
