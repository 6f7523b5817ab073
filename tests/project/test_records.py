"""Recorded figures that do not depend on the machine, computed again: calls, orders, errors of single rows."""

import importlib
import json
import sys
from pathlib import Path

import pytest

import sdediff as sd
from sdediff import solvers
from sdediff.benchmark import contend
from sdediff.benchmark.contenders import errors
from sdediff.testing import ReferenceFlow, measured_order

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))


def rows(name):
    return json.loads((FOLDER / "results" / f"{name}.json").read_text())["rows"]


@pytest.fixture(scope="module")
def quality():
    return importlib.import_module("quality")


def test_orders_are_those_of_the_record():
    reference = ReferenceFlow.of(sd.VP())
    recorded = {row["solver"]: row for row in rows("orders")}
    for name in ("ddim", "dpmpp_2m", "unipc"):
        found = measured_order(sd.solver(name), reference=reference)
        assert found == pytest.approx(recorded[name]["measured"]["VP"], abs=0.02)
        assert recorded[name]["calls"] == sd.solver(name).calls


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "unipc", "heun"])
def test_errors_and_calls_of_our_solvers_are_those_of_the_record(quality, name):
    at = quality.setting("ring_unequal")
    recorded = [r for r in rows("quality") if (r["task"], r["system"], r["name"]) == ("ring_unequal", "ours", name)]
    for row in recorded:
        if row["budget"] in (10, 20):
            outcome = contend(quality.Ours(name), at.model, at.x, row["budget"], repeat=False)
            assert outcome.calls == row["calls"]
            assert at.error(outcome.x) == pytest.approx(row["error"], rel=1e-3)
    assert {10, 20} <= {row["budget"] for row in recorded}


@pytest.mark.parametrize("calls", [5, 10])
def test_what_auto_chose_on_a_held_out_target_has_its_error(calls):
    held_out = importlib.import_module("held_out")
    at = held_out.held("spiral")
    [row] = [row for row in rows("held_out") if (row["target"], row["calls"]) == ("spiral", calls)]
    chosen = eval(row["chosen"]["solver"], vars(solvers).copy())
    x = sd.sample(at.model, x=at.x, solver=chosen, grid=row["chosen"]["times"])
    found = errors(x, sd.sample(at.model, x=at.x, **held_out.FLOW))
    assert found.median().item() == pytest.approx(row["median"]["auto"], rel=1e-2)
    assert found.square().mean().sqrt().item() == pytest.approx(row["rms"]["auto"], rel=1e-2)


def test_the_page_on_solvers_says_what_was_recorded():
    page = (FOLDER.parent / "docs" / "choosing.md").read_text()
    for row in rows("held_out"):
        assert f"{row['median']['ratio']:.2f}".lstrip("0") in page
    verdicts = json.loads((FOLDER / "results" / "samplers.json").read_text())["verdicts"]
    late = verdicts["largest ratio of Frechet distances"]
    assert (
        f"factor of {late['5']['between families']:.1f} at 5 calls, {late['10']['between families']:.1f} at 10" in page
    )
    assert f"up to {late['5']['within a family']:.0f}, {late['10']['within a family']:.1f} and" in page
    # On the Frechet distance nothing differs from real data at 20 calls; on the energy distance two do.
    assert {tuple(entry[:2]) for entry in verdicts["differ at 20 and more"]} == {("gmm64", 20)}
