"""Sheets of samples: what every solver makes of the same few starts, as pictures beside the rows of a sweep."""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from sdediff._utils.errors import StepsWarning
from sdediff._utils.files import whole
from sdediff.benchmark.cells import REAL_DATA, full_name
from sdediff.benchmark.entries import Starts
from sdediff.benchmark.sweep_work import PlannedCell, SweepWork
from sdediff.datasets.pictures import grid_image
from sdediff.model.data_card import DataCard

NAME = "sheets.json"
# Pictures on a sheet, the budgets that sheets are made for, and the sides that are shown.
_SHOWN, _BUDGETS, _SIDES = 16, (5, 10, 20), range(4, 257)
_LARGEST = 1 << 26
# Numbers of colours, where the page has no room for all.
_PALETTES = (64, 16)


def write_sheets(work: SweepWork, folder: Path) -> None:
    """Write sheets.json: task, solver, calls and a PNG as a data URL, for tasks whose samples are pictures."""
    sheets = [sheet for task in work.tasks for sheet in _sheets(work, task)]
    if sheets:
        with whole(folder / NAME) as unfinished:
            unfinished.write_text(json.dumps(sheets), encoding="utf-8")


def read_sheets(folder: Path) -> list[dict[str, Any]]:
    """The sheets of a folder; none where they were not written or are damaged: no number depends on them."""
    path = folder / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < _LARGEST else []
    except (OSError, ValueError, RecursionError):
        return []
    kinds = {"task": str, "solver": str, "calls": int, "png": str}
    return [
        sheet
        for sheet in (found if isinstance(found, list) else [])
        if isinstance(sheet, dict) and all(isinstance(sheet.get(name), kind) for name, kind in kinds.items())
    ]


def fitted(sheets: Sequence[dict[str, Any]], room: int) -> list[dict[str, Any]]:
    """The sheets in at most `room` bytes: with fewer colours where they do not fit, and then without the last ones."""
    shown = list(sheets)
    for colours in _PALETTES:
        if sum(len(sheet["png"]) for sheet in shown) <= room:
            break
        shown = [{**sheet, "png": _reduced(sheet["png"], colours)} for sheet in sheets]
    while shown and sum(len(sheet["png"]) for sheet in shown) > room:
        shown.pop()
    return shown


def _reduced(png: str, colours: int) -> str:
    from PIL import Image

    head, _, data = png.partition(",")
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        buffer = io.BytesIO()
        picture.quantize(colours).save(buffer, format="PNG", optimize=True)
    except (OSError, ValueError):  # a damaged picture is shown as it is
        return png
    return f"{head},{base64.b64encode(buffer.getvalue()).decode()}"


def _sheets(work: SweepWork, task: Any) -> Iterator[dict[str, Any]]:
    """The sheets of one task, a solver after the other."""
    shape = tuple(task.shape)
    if len(shape) != 3 or shape[0] not in (1, 3) or not all(side in _SIDES for side in shape[1:]):
        return
    cells = [cell for cell in work.planned[: work.base] if cell.task is task and cell.entry.library != REAL_DATA]
    budgets = {cell.point.budget for cell in cells if cell.point.budget is not None}
    chosen = {_nearest(budgets, usual) for usual in _BUDGETS if budgets}
    firsts: dict[Any, PlannedCell] = {}
    for cell in cells:
        firsts.setdefault((cell.entry.library, cell.entry.label, cell.point), cell)
    for cell in firsts.values():
        if cell.point.budget in chosen:
            png = _picture(work, cell)
            if png:
                yield {"task": task.name, "solver": _label(cell), "calls": cell.point.budget, "png": png}


def _nearest(budgets: set[int], usual: int) -> int:
    return min(budgets, key=lambda budget: abs(budget - usual))


def _label(cell: PlannedCell) -> str:
    name = full_name(cell.entry.library, cell.entry.label)
    return name if cell.point.grid is None else f"{name} on {cell.point.grid}"


def _picture(work: SweepWork, cell: PlannedCell) -> str:
    """The samples as a PNG; empty where the solver refuses or gives no finite samples, which its cell says."""
    task = cell.task
    starts = Starts(task, cell.seed, 0, min(_SHOWN, work.samples[task.name]), *work.places[task.name])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StepsWarning)
            x = cell.entry.draw(task.model, starts, cell.point).x
    except Exception:  # a network or a contender may raise anything
        return ""
    if not torch.isfinite(x).all():
        return ""
    buffer = io.BytesIO()
    bounds = DataCard.of(task.model.card).range or (-1.0, 1.0)
    grid_image(x.detach().cpu().float(), 8, bounds, max(1, 32 // min(x.shape[2:]))).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
