"""Recommendations kept in files: one for each question, which is read in full before its answer is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from sdediff._utils.errors import InputError
from sdediff._utils.files import expanded, whole
from sdediff._utils.machine import versions
from sdediff.analysis.recommendation import MeasuredCandidate, Recommendation
from sdediff.model.identity import identity, words
from sdediff.model.score_model import ScoreModel
from sdediff.solvers import Solver

_FORMAT, _MOST = 2, 4 << 20  # the format's number, and the bytes of the largest file that is read


class Kept:
    """The file in a folder that answers one question, absent at first.

    The question is the model's `identity`, every argument of `recommend`, and the package's version. InputError for
    a model or an argument that cannot be recognised again.
    """

    def __init__(self, folder: str | Path, model: ScoreModel, arguments: dict[str, Any]) -> None:
        described = {name: " ".join(words(value)) for name, value in sorted(arguments.items())}
        self.question = {
            "format": _FORMAT, "sdediff": versions()["sdediff"], "model": identity(model), "arguments": described
        }  # fmt: skip
        name = hashlib.sha256(json.dumps(self.question, sort_keys=True).encode()).hexdigest()[:20]
        self.path = expanded(folder, "keep") / f"recommendation-{name}.json"

    def read(self) -> Recommendation | None:
        """The recommendation; None where there is none, or where the file is damaged or answers another question."""
        try:
            if self.path.stat().st_size > _MOST:
                return None
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["question"] != self.question or content["sha256"] != _checksum(content["answer"]):
                return None
            return _recommendation(content["answer"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def write(self, best: Recommendation) -> bool:
        """Write the file, whole or not at all; False for a solver of a class that is not this package's."""
        try:
            answer = {f.name: getattr(best, f.name) for f in dataclasses.fields(best)}
            answer |= {"solver": _plain(best.solver), "times": best.times.tolist()}
            answer["candidates"] = [list(row) for row in best.candidates]
        except InputError:
            return False
        with whole(self.path) as unfinished:
            content = {"question": self.question, "sha256": _checksum(answer), "answer": answer}
            unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return True


def _checksum(answer: Any) -> str:
    return hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()


def _recommendation(answer: dict[str, Any]) -> Recommendation:
    grid = answer["grid"]
    answer = {
        **answer,
        "solver": _solver(answer["solver"]),
        "grid": grid if isinstance(grid, str) else tuple(map(float, grid)),
        "times": torch.tensor(answer["times"], dtype=torch.float64),
        "candidates": tuple(MeasuredCandidate(*row) for row in answer["candidates"]),
    }
    return Recommendation(**answer)


def _plain(value: Any) -> Any:
    """A solver's fields as plain values, solvers inside of it too."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    kind = type(value)
    if isinstance(value, Solver) and dataclasses.is_dataclass(value) and _class(kind.__name__) is kind:
        return {
            "class": kind.__name__,
            **{f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init},
        }
    raise InputError(f"a {kind.__name__} has no plain values")


def _solver(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_solver(part) for part in value)
    if not isinstance(value, dict):
        return value
    fields = {name: _solver(part) for name, part in value.items() if name != "class"}
    kind = _class(value["class"])
    if kind is None:
        raise InputError(f"no solver {value['class']!r}")
    return kind(**fields)


def _class(name: str) -> type[Solver] | None:
    """The solver's class in this package by its name."""
    every, found = [Solver], []
    while every:
        kind = every.pop()
        every += kind.__subclasses__()
        if kind.__name__ == name and kind.__module__.startswith("sdediff.solvers."):
            found.append(kind)
    return found[0] if len(found) == 1 else None
