"""A network that is watched: how often it is evaluated, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


class WatchedNetwork:
    """Calls a network, counts the rows that it evaluates and adds up the time spent in it."""

    def __init__(self, net: Callable[..., Any], device: torch.device) -> None:
        self.net, self.device = net, device
        self.seconds, self.rows = 0.0, 0

    def __call__(self, x: Any, *args: Any, **cond: Any) -> Any:
        began = self.now()
        out = self.net(x, *args, **cond)
        self.seconds += self.now() - began
        self.rows += len(x)
        return out

    def now(self) -> float:
        """Seconds on a clock that waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
