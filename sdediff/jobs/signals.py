"""Context managers of a running job: signals raise exceptions, and torch has the job's thread count."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sdediff.jobs.errors import Stopped


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Stopped inside; outside of the main thread signals are left as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: Any) -> None:
        raise Stopped(number)

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set torch's thread count inside, and restore it afterwards."""
    previous = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(previous)
