"""The commands `bench` and `conformance`."""

import sdediff as sd
from sdediff.benchmark import Report
from tests.cli.output import parsed


def test_bench_writes_a_table_a_picture_and_a_file(run, tmp_path):
    base = ("bench", "--task", "ring", "--solver", "heun", "--solver", "ddim:eta=0.5", "--samples", 40)
    code, out, err = run(*base, "--calls", "3,6", "--calls", "12", "--distance", "energy", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert "ring: real data" in out
    assert str(tmp_path / "bench.png") in out
    report = Report.load(tmp_path / "bench.json")
    assert [(row.solver, row.calls) for row in report.rows] == [
        ("heun", 3), ("heun", 5), ("heun", 11), ("ddim:eta=0.5", 3), ("ddim:eta=0.5", 6), ("ddim:eta=0.5", 12),
    ]  # fmt: skip
    assert report.rows[-1].solver_repr == "DDIM(eta=0.5)"
    assert (tmp_path / "bench.png").stat().st_size > 20_000
    said = parsed(run(*base, "--calls", 2, "--calls", 3, "--distance", "energy", "--out", tmp_path, "--json"))
    assert len(said["rows"]) == 3
    assert said["skipped"][0]["budget"] == 2


def test_conformance_runs_the_kit_on_own_and_registered_solvers(run, monkeypatch):
    from sdediff import testing

    seen = []

    def kit(solver):
        seen.append(solver)
        return [testing.Check("shapes", "all")]

    monkeypatch.setattr(testing, "check_solver", kit)
    assert parsed(run("conformance", "plugin:Own", "--json")) == {
        "solver": "Own()", "passed": [{"name": "shapes", "detail": "all"}]
    }  # fmt: skip
    code, out, _ = run("conformance", "heun")
    assert code == 0
    assert "passes 1 checks" in out
    assert seen == [seen[0], sd.solver("heun")]


def test_conformance_that_fails_says_which_in_one_line(run, monkeypatch):
    from sdediff import testing

    def kit(solver):
        raise testing.ConformanceError("Own() fails 'order':\n measured 0.5")

    monkeypatch.setattr(testing, "check_solver", kit)
    assert run("conformance", "plugin:Own") == (1, "", "sdediff: plugin:Own: Own() fails 'order': measured 0.5\n")
