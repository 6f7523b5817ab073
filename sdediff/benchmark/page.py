"""report.html: the rows of a sweep on one page that needs no network, to sort, filter, hover over and copy from."""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from sdediff._utils.errors import InputError
from sdediff._utils.files import whole
from sdediff.analysis.figures import COLOURS
from sdediff.benchmark.cells import Cell
from sdediff.benchmark.rows import Row
from sdediff.benchmark.sheets import fitted
from sdediff.targets import TARGETS

# The bytes that a page may have, and those of a sheet beside its picture.
_MOST, _BESIDE = 5_900_000, 200
# What a reader may look at, in this order, and what it is called.
_ERRORS = {
    "error_median": "error, median",
    "error_q90": "error, quantile 0.9",
    "error_q99": "error, quantile 0.99",
    "error_rms": "error, rms",
    "other_mode": "share in another mode",
    "gaussian": "exact W2 on Gaussian data",
}


@dataclass(frozen=True)
class Contents:
    """What the page shows: rows, names of tasks and distances, skipped cells, sheets of samples, what ran it."""

    rows: Sequence[Row]
    tasks: Sequence[str]
    distances: Sequence[str]
    skipped: Sequence[Cell]
    sheets: Sequence[dict[str, Any]]
    threads: int
    circumstances: dict[str, Any]


def write_page(contents: Contents, path: str | Path) -> Path:
    """Write the page, and return its path. It holds plotly's script, packed into 2 MB, and has at most 6 MB.

    InputError where plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise InputError("the HTML report needs plotly: pip install 'sdediff[report]'") from error
    template = files("sdediff").joinpath("assets", "bench_report.html").read_text(encoding="utf-8")
    script = base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
    content = _content(contents)
    room = _MOST - len(template) - len(script) - len(json.dumps(content)) - _BESIDE * len(contents.sheets)
    content["pictures"] = fitted(contents.sheets, room)
    filled = {
        "@TITLE@": html.escape(", ".join(contents.tasks)),
        "@FOOT@": html.escape(_foot(contents)),
        "@DATA@": json.dumps(content, allow_nan=False).replace("</", "<\\/"),
        "@PLOTLY@": script,
    }
    for mark, text in filled.items():
        template = template.replace(mark, text, 2 if mark == "@TITLE@" else 1)
    with whole(path) as unfinished:
        unfinished.write_text(template, encoding="utf-8")
    return Path(path)


def _content(contents: Contents) -> dict[str, Any]:
    rows = [_row(row) for row in contents.rows]
    names = {name for row in contents.rows for name in row.quality}
    errors = [(name, text) for name, text in _ERRORS.items() if name in names]
    grids = {(row.solver, row.grid) for row in contents.rows}
    return {
        "rows": rows,
        "tasks": contents.tasks,
        "qualities": [*errors, *((name, name) for name in contents.distances)],
        "grids": len(grids) > len({solver for solver, _ in grids}),
        "colours": COLOURS,
        "skipped": [_skipped(cell) for cell in contents.skipped],
    }


def _row(row: Row) -> dict[str, Any]:
    quality = {name: [_finite(q.value), _finite(q.std_error)] for name, q in row.quality.items()}
    plain = {name: value for name, value in row.to_dict().items() if name != "quality"}
    return {
        **{name: _finite(value) for name, value in plain.items()},
        "quality": {name: pair for name, pair in quality.items() if pair[0] is not None},
        "name": row.name,
        "real": row.real,
        "python": "" if row.real else python_of(row),
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def python_of(row: Row) -> str:
    """The call that repeats a row, as Python; of a contender its name in `bench`."""
    if row.library != "sdediff":
        of = f'targets=["{row.task}"]' if row.task in TARGETS else f'["{row.task}"]'
        at = "" if row.budget is None else f", calls=[{row.budget}]"  # an adaptive one holds its tolerance
        return f'sd.bench({of}, solvers=["ddim"], contenders=["{row.library}:{row.solver}"]{at})'
    name, _, options = row.solver.partition(":")
    solver = f'"{name}"' if not options else f'sd.solver("{name}", {options.replace(",", ", ")})'
    if row.tolerance is not None:
        solver = f'sd.solver("{name}", rtol={row.tolerance:g}, atol={row.tolerance:g})'
    budget = "" if row.budget is None else f", calls={row.budget}"
    grid = "" if row.grid is None else f', grid="{row.grid}"'
    return f"x = sd.sample(model, (n, ...), solver={solver}{budget}{grid})"


def _skipped(cell: Cell) -> str:
    return f"{cell.task}, {cell.solver} at {cell.budget or cell.tolerance}, seed {cell.seed}: {cell.status}"


def _foot(contents: Contents) -> str:
    about = contents.circumstances
    machine, git = about.get("machine", {}), about.get("git") or {}
    parts = [
        *(
            f"{task}: {entry['value']:.3f} \u00b1 {entry['std_error']:.3f} {entry['unit']} on {entry['rows']} rows"
            for task, entry in about.get("likelihoods", {}).items()
        ),
        *(f"{name} {version}" for name, version in about.get("versions", {}).items()),
        *(str(machine[key]) for key in ("cpu", "device", "date") if key in machine),
        f"{contents.threads} threads",
        f"commit {git['commit'][:10]}{' with changes' if git.get('changed') else ''}" if git else "",
        f"{about['seconds']:.0f} s of computing" if "seconds" in about else "",
    ]
    return "; ".join(part for part in parts if part)
