"""Clocks of a device: wall time on a CPU, events on CUDA, which do not make the device wait between readings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch


class Clock:
    """Marks in the device's queue of work, and the seconds between them. On a CPU a mark is the wall time."""

    def mark(self) -> Any:
        """A mark at this place of the queue."""
        return time.perf_counter()

    def total(self, pairs: Sequence[tuple[Any, Any]]) -> float:
        """The seconds between the two marks of each pair, added up."""
        return sum(end - begin for begin, end in pairs)


class EventClock(Clock):
    """CUDA's events on the current stream of a device; reading them waits for the last one once."""

    def __init__(self, device: torch.device, events: Any = None) -> None:
        self.device, self.events = device, events or torch.cuda

    def mark(self) -> Any:
        event = self.events.Event(enable_timing=True)
        event.record(self.events.current_stream(self.device))
        return event

    def total(self, pairs: Sequence[tuple[Any, Any]]) -> float:
        if pairs:
            pairs[-1][1].synchronize()
        return 1e-3 * sum(begin.elapsed_time(end) for begin, end in pairs)


def clock_of(device: torch.device) -> Clock:
    """The clock of a device."""
    return EventClock(device) if device.type == "cuda" else Clock()
