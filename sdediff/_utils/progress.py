"""One progress bar for all long work: silent on short runs and where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from sdediff._utils.notebook import NotebookBar, notebook

Item = TypeVar("Item")
_PATIENCE = 2.0
# Whether bars are drawn where stderr is no terminal too: a command's --verbose.
ALWAYS: ContextVar[bool] = ContextVar("ALWAYS", default=False)


def _watched() -> bool:
    return sys.stderr.isatty() or ALWAYS.get() or notebook() is not None


def track(items: Iterable[Item], total: int | None, what: str, show: bool | None = None) -> Iterator[Item]:
    """The items, with a bar on stderr once the run has lasted two seconds.

    show: True draws it from the start, False never, None when stderr is a terminal or the code runs in a notebook.
    """
    if show is False or (show is None and not _watched()):
        return iter(items)
    show = show or ALWAYS.get()
    return _tracked(items, total, what, show)


@contextmanager
def counting(total: int, what: str, show: bool | None = None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A function to call with numbers of finished items, of `total`; drawn as `track` draws. done: before the start."""
    if show is False or (show is None and not _watched()):
        yield lambda count: None
        return
    began, now, bar, task = time.monotonic(), done, None, None

    def advance(count: int) -> None:
        nonlocal now, bar, task
        now += count
        seconds = time.monotonic() - began
        if bar is None and (show or seconds > _PATIENCE):
            bar = _bar()
            task = bar.add_task(what, total=total, completed=done, rate="")
            bar.start()
        if bar is not None:
            bar.update(task, completed=now, rate=_rate(now - done, seconds))

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


def _tracked(items: Iterable[Item], total: int | None, what: str, show: bool | None) -> Iterator[Item]:
    began, bar, task = time.monotonic(), None, None
    try:
        for done, item in enumerate(items):
            if bar is None and (show or time.monotonic() - began > _PATIENCE):
                bar = _bar()
                task = bar.add_task(what, total=total, rate="")
                bar.start()
            if bar is not None and task is not None:
                bar.update(task, completed=done, rate=_rate(done, time.monotonic() - began))
            yield item
        if bar is not None and task is not None:
            bar.update(task, completed=total or 0)
    finally:
        if bar is not None:
            bar.stop()


def _rate(done: int, seconds: float) -> str:
    """How many items a second, or seconds an item."""
    if not done or seconds <= 0:
        return ""
    return f"{done / seconds:.3g}/s" if done > seconds else f"{seconds / done:.3g} s each"


def _bar() -> Any:
    display = notebook()
    if display is not None:
        return NotebookBar(display)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    columns = (*words, TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=sys.stderr.isatty())
