"""The commands that list what there is."""

import sdediff as sd
from tests.cli.output import parsed


def test_solvers_lists_the_registry(run):
    code, out, _ = run("solvers")
    assert code == 0
    assert all(f" {name} " in out for name in sd.list_solvers())
    entries = {entry["name"]: entry for entry in parsed(run("solvers", "--json"))}
    assert entries["heun"]["calls"] == 2
    assert entries["heun"]["repr"] == "RungeKutta(method='heun', variable='t')"


def test_models_lists_the_package(run):
    code, out, _ = run("models")
    assert code == 0
    assert all(name in out for name in sd.models())
    assert [entry["name"] for entry in parsed(run("models", "--json"))] == list(sd.models())
