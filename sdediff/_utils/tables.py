"""Tables as plain text and for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Rows of text as an HTML table, each line of the caption on its own line."""
    head = "".join(f"<th>{escape(title)}</th>" for title in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    lines = "<br>".join(escape(line) for line in caption.split("\n"))
    return f"<table><caption>{lines}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def plain_text(table: Any, width: int) -> str:
    """What rich prints of an object, as text of a width, without colours; in a notebook, too, nothing is displayed."""
    from rich.console import Console

    console = Console(width=width, color_system=None, force_terminal=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get()
