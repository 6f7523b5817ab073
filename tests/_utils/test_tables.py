"""Tables as text, in a terminal, a file and a notebook alike."""

from __future__ import annotations

import pytest
import rich.console
from rich.table import Table

from sdediff._utils.tables import plain_text


@pytest.fixture
def table():
    table = Table("solver", "error")
    table.add_row("ddim", "0.08")
    return table


def test_a_notebook_prints_the_same_text_and_displays_nothing(table, monkeypatch, capsys):
    outside = plain_text(table, 40)
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    shown = []
    monkeypatch.setattr("rich.jupyter.display", lambda *given: shown.append(given))
    assert plain_text(table, 40) == outside
    assert "ddim" in outside
    assert max(map(len, outside.splitlines())) <= 40
    assert (shown, capsys.readouterr().out) == ([], "")
