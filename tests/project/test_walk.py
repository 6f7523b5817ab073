"""The walk: how many files a run enters, and how many Python calls of the package it makes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import sdediff as sd

PACKAGE = str(Path(sd.__file__).parent)


def _net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return 0.1 * x


MODEL = sd.ScoreModel(_net, sd.VP())


def _counted(run: Callable[[], Any]) -> Counter[str]:
    """The calls of Python functions of the package while `run` runs, by file; generators count at each resumption."""
    counts: Counter[str] = Counter()

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            counts[frame.f_code.co_filename.removeprefix(PACKAGE + "/")] += 1

    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
    return counts


def _run(steps: int) -> Counter[str]:
    def run() -> None:
        sd.sample(MODEL, (1, 3, 32, 32), solver="dpmpp_2m", steps=steps)

    run()
    return _counted(run)


@pytest.fixture(scope="module")
def runs() -> dict[int, Counter[str]]:
    """Calls by file of warm runs of 10 and 30 steps."""
    return {steps: _run(steps) for steps in (10, 30)}


def test_a_step_makes_eight_calls_in_five_files(runs: dict[int, Counter[str]]) -> None:
    slope = {file: (runs[30][file] - runs[10][file]) / 20 for file in runs[30]}
    loop = {file: calls for file, calls in slope.items() if calls}
    assert sum(loop.values()) <= 8, loop
    assert len(loop) <= 5, loop


def test_a_whole_run_enters_sixteen_files_and_makes_a_hundred_calls_beside_its_steps(
    runs: dict[int, Counter[str]],
) -> None:
    slope = (runs[30].total() - runs[10].total()) / 20
    assert len(runs[10]) <= 16, runs[10]
    assert runs[10].total() - 10 * slope <= 100, runs[10]


def test_a_first_run_makes_the_calls_of_a_later_one() -> None:
    """Nothing is remembered: a process, a network and a shape never seen before take the steps that known ones take."""
    known = _run(10)
    model = sd.ScoreModel(lambda x, t: 0.2 * x, sd.VP(beta_max=13.37))
    assert _counted(lambda: sd.sample(model, (2, 3, 16, 16), solver="dpmpp_2m", steps=10)) == known


def test_a_sampler_used_again_evaluates_nothing_but_its_steps() -> None:
    sampler = sd.Sampler(MODEL, solver="dpmpp_2m", steps=10)
    first, again = (_counted(lambda: sampler((1, 3, 32, 32))) for _ in range(2))
    assert again.total() < first.total()
    assert not [file for file in again if file.startswith(("grids/", "solvers/weights"))], again
    assert again["sde/processes.py"] <= 2, "the standard deviation of the prior"
