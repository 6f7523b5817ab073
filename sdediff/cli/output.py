"""What commands print: JSON for machines, tables for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer


def plain(value: Any) -> Any:
    """Values as JSON has them: paths as text, tuples as lists, NaN and infinity as null."""
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def emit(payload: Any) -> None:
    """JSON on stdout."""
    typer.echo(json.dumps(plain(payload), indent=1, allow_nan=False))


def show(table: Any) -> None:
    """A rich table on stdout; without a terminal it is as wide as its content."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    if not sys.stdout.isatty():
        wide = Console(width=10_000)
        console = Console(width=max(80, Measurement.get(wide, wide.options, table).maximum))
    console.print(table)


def listed(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows as a table; None is left empty."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else escape(_text(cell)) for cell in row))
    show(table)


def _text(cell: Any) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
