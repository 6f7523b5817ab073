"""A progress bar in a notebook: one line of HTML under the cell, which is replaced as the work goes on."""

from __future__ import annotations

import html
import sys
import time
from typing import Any

_EVERY = 0.2  # seconds between two drawings


def notebook() -> Any | None:
    """IPython's display module where the code runs in a notebook's kernel, else None. Imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return sys.modules.get("IPython.display") if hasattr(shell, "kernel") else None


class NotebookBar:
    """What `progress` asks of a bar of rich: one task, drawn at most five times a second and at its end."""

    def __init__(self, display: Any) -> None:
        self.display, self.drawn = display, 0.0
        self.handle: Any = None
        self.what, self.total, self.completed, self.rate = "", 0, 0, ""

    def add_task(self, what: str, total: int | None, completed: int = 0, rate: str = "") -> int:
        """The one task: what is counted, of how many (None: not known)."""
        self.what, self.total, self.completed, self.rate = what, total or 0, completed, rate
        return 0

    def start(self) -> None:
        self.handle = self.display.display(self.display.HTML(self.line()), display_id=True)

    def update(self, task: int, completed: int, rate: str | None = None) -> None:
        self.completed, self.rate = completed, self.rate if rate is None else rate
        if self.handle is not None and time.monotonic() - self.drawn > _EVERY:
            self._draw()

    def stop(self) -> None:
        if self.handle is not None:
            self._draw()

    def _draw(self) -> None:
        self.drawn = time.monotonic()
        self.handle.update(self.display.HTML(self.line()))

    def line(self) -> str:
        """The bar with its numbers, in the theme's own colours."""
        share = f' max="{self.total}" value="{self.completed}"' if self.total else ""
        numbers = f"{self.completed}/{self.total or '?'}" + (f", {self.rate}" if self.rate else "")
        return f"<span>{html.escape(self.what)} <progress{share}></progress> {html.escape(numbers)}</span>"
