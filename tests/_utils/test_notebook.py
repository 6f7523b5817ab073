"""The progress bar of notebooks, on a display that records what it is given."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from sdediff._utils import progress
from sdediff._utils.notebook import NotebookBar, notebook


class Display:
    """IPython's display module, as far as the bar uses it: `shown` is what stands under the cell."""

    def __init__(self):
        self.shown: list[str] = []

    def HTML(self, text):
        return text

    def display(self, text, display_id):
        assert display_id
        self.shown = [text]
        return self

    def update(self, text):
        self.shown.append(text)


@pytest.fixture
def display(monkeypatch):
    shown = Display()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    return shown


def test_no_notebook_without_a_kernel(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace()))
    assert notebook() is None


def test_long_work_shows_one_line_that_ends_complete(display, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)
    assert list(progress.track(range(3), 3, "steps <1>")) == [0, 1, 2]
    assert display.shown[0].startswith("<span>steps &lt;1&gt; <progress")
    assert 'max="3" value="3"' in display.shown[-1]
    assert "3/3" in display.shown[-1]


def test_short_work_shows_nothing(display):
    assert list(progress.track(range(3), 3, "steps")) == [0, 1, 2]
    with progress.counting(3, "rows") as advance:
        advance(3)
    assert display.shown == []


def test_work_of_unknown_length_has_no_share(display):
    bar = NotebookBar(display)
    bar.add_task("rows", None)
    bar.start()
    bar.update(0, completed=2)
    bar.stop()
    assert display.shown[-1] == "<span>rows <progress></progress> 2/?</span>"
