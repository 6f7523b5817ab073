"""The commands `bench` and `conformance`."""

import sdediff as sd
from sdediff.benchmark import Report
from tests.cli.output import parsed


def test_bench_writes_a_table_a_picture_and_rows(run, tmp_path):
    base = ("bench", "--targets", "ring", "--solvers", "heun,ddim:eta=0.5", "--samples", 20, "--seeds", 1)
    code, out, err = run(*base, "--calls", "3,6", "--calls", "12", "--distances", "energy", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert "ring: real data" in out
    assert str(tmp_path / "bench.png") in out
    report = Report.load(tmp_path)
    assert [(row.solver, row.calls) for row in report.rows[1:]] == [
        ("heun", 3), ("heun", 5), ("heun", 11), ("ddim:eta=0.5", 3), ("ddim:eta=0.5", 6), ("ddim:eta=0.5", 12),
    ]  # fmt: skip
    assert report.settings["settings"]["entries"]["ddim:eta=0.5"] == "DDIM(eta=0.5)"
    assert (tmp_path / "bench.png").stat().st_size > 20_000


def test_bench_as_json_without_a_folder_takes_the_next_that_is_free(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = ("bench", "--targets", "ring", "--solvers", "heun", "--samples", 20, "--seeds", 1, "--distances", "energy")
    said = parsed(run(*base, "--calls", "2,3", "--json"))
    assert len(said["rows"]) == 2
    assert said["skipped"][0]["budget"] == 2
    other = parsed(run(*base, "--calls", 5, "--json"))
    again = parsed(run(*base, "--calls", "2,3", "--json", "--quiet"))
    names = [said["files"]["cells.parquet"] for said in (said, other, again)]
    assert names == [f"{folder}/cells.parquet" for folder in ("bench-results", "bench-results-2", "bench-results")]


def test_options_of_earlier_versions_are_answered_with_those_there_are(run):
    for old, new in {"--task": "--targets", "--solver": "--solvers", "--distance": "--distances"}.items():
        code, _, err = run("bench", old, "ring")
        assert (code, err.count("\n")) == (2, 1)
        assert f"that is '{new}' here" in err


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
