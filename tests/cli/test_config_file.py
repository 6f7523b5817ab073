"""`--config FILE`: arguments from TOML."""

import json

import numpy as np
import pytest

SHARED = 'model = "points"\ncalls = 4\nseed = 3\njson = true\n'


def _written(home, text):
    (home / "work.toml").write_text(text)
    return "work.toml"


def test_a_file_gives_what_is_not_typed(run, home):
    table = '[sample]\nn = 5\nsolver = "adams"\noption = {points = 3, eta = 0.5}\nout = "from-file"\n'
    code, out, _ = run("sample", "--config", _written(home, SHARED + table))
    found = json.loads(out)
    assert code == 0
    assert (found["n"], found["calls"], found["seed"]) == (5, 4, 3)
    assert "points=3" in found["solver"]
    assert "eta=0.5" in found["solver"]
    typed = "sample points --calls 4 --seed 3 -n 5 --solver adams --option points=3 --option eta=0.5 --out typed"
    assert run(*typed.split())[0] == 0
    assert np.array_equal(*(np.load(home / folder / "samples.npz")["x"] for folder in ("from-file", "typed")))


@pytest.mark.parametrize("command", ["status", "verify", "merge"])
def test_commands_on_jobs_take_a_file_too(run, home, command):
    typed, read = (
        run("jobs", command, "nowhere"),
        run("jobs", command, "--config", _written(home, 'folder = "nowhere"\n')),
    )
    assert read == typed
    assert typed[0] == 2
    assert "nowhere" in typed[2]
    shared = 'folder = "nowhere"\ncalls = 20\n[sample]\nsolver = "unipc"\n'  # of every command of a project
    assert run("jobs", command, "--config", _written(home, shared)) == run("jobs", command, "nowhere")
    assert "did you mean 'folder'" in run("jobs", command, "--config", _written(home, 'foldr = "x"\n'))[2]


def test_what_is_typed_comes_first(run, home):
    code, out, _ = run("sample", "pictures", "--config", _written(home, SHARED + "[sample]\nn = 5\n"), "-n", "2")
    found = json.loads(out)
    assert code == 0
    assert (found["model"], found["n"]) == ("pictures", 2)


def test_shared_keys_reach_the_commands_that_take_them(run, home):
    file = _written(home, SHARED + 'data = "points.npy"\nlimit = 2\nrtol = 0.1\natol = 0.1\nout = "scores"\n')
    code, out, error = run("likelihood", "--config", file)
    assert code == 0, error
    assert json.loads(out)["samples"] == 2


@pytest.mark.parametrize("model", ['"digits-vp"', '["digits-vp"]'])
def test_arguments_that_may_be_many_are_a_list_or_one(run, home, model):
    text = 'solvers = ["ddim"]\ncalls = [3]\nsamples = 20\nseeds = 1\ndistances = ["energy"]\n'
    more = 'json = true\nlikelihoods = 0\ncheck = false\nout = "many"\n'
    code, out, error = run("bench", "--config", _written(home, f"model = {model}\n{text}{more}"))
    assert code == 0, error
    assert {row["task"] for row in json.loads(out)["rows"]} == {"digits-vp"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modle = "points"', "'model'"),
        ("[sample]\nstep = 3", "'steps'"),
        ("[sample]\nlimit = 3", "[sample]"),
        ("[smaple]\nn = 3", "smaple"),
        ("n = [[1]]", "plain values"),
        ("json = 3", "true or false"),
        ("calls = true", "takes a value"),
        ("calls = 1e400", "calls"),
        ("a = " + "[" * 5000, "no TOML"),
        ("\x00", "no TOML"),
        ("#" * (1 << 21), "1 MiB"),
    ],
)
def test_a_bad_file_is_one_line(run, home, text, said):
    code, out, error = run("sample", "points", "--config", _written(home, text))
    assert code == 2
    assert not out
    assert error.count("\n") == 1
    assert said in error


def test_a_file_that_cannot_be_read(run):
    for name in ("nowhere.toml", "~nouser/a.toml", "x" * 5000, "."):
        code, _, error = run("sample", "points", "--config", name)
        assert code == 2
        assert error.startswith("sdediff: --config:")
        assert error.count("\n") == 1
