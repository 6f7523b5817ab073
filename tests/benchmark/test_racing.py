"""The race for further seeds: who is in it, and the rounds of a sweep with a budget."""

import json

import pytest

from sdediff.benchmark import Cell, Report
from sdediff.benchmark.cells import empty
from sdediff.benchmark.racing import contested
from sdediff.benchmark.rounds import Sweep, seconds_of
from tests.benchmark.small import tiny


def cell(index, solver, seed, error, distance=None):
    row = {**empty(), "index": index, "status": "ok", "task": "t", "library": "sdediff", "solver": solver, "budget": 5}
    row |= {"seed": seed, "samples": 20, "stochastic": error is None, "error_median": error, "energy": distance}
    return Cell.of({**row, "energy_se": 0.1}, ["energy"], {})


def test_only_the_leader_and_what_may_be_as_good_are_contested():
    errors = {"best": (1.0, 1.1, 0.9), "near": (1.05, 1.0, 1.0), "worse": (2.0, 2.2, 1.8)}
    cells = [cell(10 * s + n, name, s, e[s]) for n, (name, e) in enumerate(errors.items()) for s in range(3)]
    assert contested(cells, "energy") == [0, 1]
    # The same spread without pairs would hide the difference: all errors of a seed move together.
    moved = {name: [e * 3**s for s, e in enumerate(found)] for name, found in errors.items() if name != "near"}
    cells = [cell(10 * s + n, name, s, e[s]) for n, (name, e) in enumerate(moved.items()) for s in range(3)]
    assert contested(cells, "energy") == []


def test_stochastic_solvers_race_by_the_distance_among_themselves():
    cells = [cell(0, "flow", 0, 1.0, 0.0), cell(1, "a", 0, None, 0.5), cell(2, "b", 0, None, -0.1)]
    assert contested(cells, "energy") == [1, 2]


def test_rounds_go_to_what_is_contested_and_repeat_the_first_numbers(tmp_path, monkeypatch):
    rounds = []

    def run(sweep, raced, original=Sweep.run):
        rounds.append(list(raced))
        return original(sweep, raced)

    monkeypatch.setattr(Sweep, "run", run)
    monkeypatch.setattr(
        "sdediff.benchmark.rounds.contested", lambda cells, _: [1, 3] if len(cells) < 14 else []
    )  # two rounds of two cells
    report = tiny(tmp_path / "race", budget="10m")
    assert rounds == [[], [1, 3], [1, 3, 1, 3]]
    assert json.loads((tmp_path / "race" / "raced.json").read_text()) == {"raced": [1, 3, 1, 3]}
    added = [(c.solver, c.budget, c.seed) for c in report.cells[10:]]
    assert added == [("ddim", 3, 2), ("euler_maruyama", 3, 2), ("ddim", 3, 3), ("euler_maruyama", 3, 3)]
    fixed = tiny(tmp_path / "fixed", seeds=4)
    for ours in report.cells:
        theirs = next(c for c in fixed.cells if (c.key, c.seed) == (ours.key, ours.seed))
        assert (ours.error_rms, ours.distances) == (theirs.error_rms, theirs.distances)
    tiny(tmp_path / "race", budget="10m")
    assert rounds[3:] == [[], [1, 3, 1, 3]]  # the fixed sweep, and the finished race
    assert Report.load(tmp_path / "race").finished


def test_a_budget_that_is_spent_leaves_the_fixed_design(tmp_path):
    report = tiny(tmp_path, budget=1e-3)
    assert len(report.cells) == 10


def test_a_budget_is_a_time():
    assert [seconds_of(text) for text in (90, "90s", "3m", "1.5h")] == [90, 90, 180, 5400]
    for text in ("soon", "-3", "0", "3d", "nan", "1e99"):
        with pytest.raises(ValueError, match="write such as 90s"):
            seconds_of(text)


def test_parts_have_no_budget(tmp_path):
    with pytest.raises(ValueError, match="leave one out"):
        tiny(tmp_path, budget="1s", part="0/2")


@pytest.mark.parametrize("text", ["", "[]", '{"raced": 3}', '{"raced": [99]}', "[" * 10000])
def test_a_damaged_list_of_races_is_named(tmp_path, text):
    (tmp_path / "raced.json").write_text(text)
    with pytest.raises(ValueError, match=r"raced\.json is"):
        tiny(tmp_path, budget="1s")
