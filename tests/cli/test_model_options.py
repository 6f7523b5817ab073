"""MODEL by reference, --trust, --cond, --statistics and models in `bench`: in every command alike."""

import json

import numpy as np
import pytest
import torch

import sdediff as sd
from tests.hub import foreign

MODELS = '''
import torch
import sdediff as sd

class Net(torch.nn.Module):
    """Pulls towards a centre for each label."""
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))
    def forward(self, x, t, label=0, shift=0.0):
        label = torch.as_tensor(label).to(x).reshape(-1, 1)
        return self.scale * (x - label / 10) + torch.as_tensor(shift).to(x).reshape(-1, 1)

def make():
    return sd.ScoreModel(Net(), sd.VP(), card={"data": {"shape": [2]}})

def empty(): pass
def fails(): raise OSError("no weights")
def wants(path): pass
'''
ALL = ("sample", "recommend", "likelihood", "bench", "check")


@pytest.fixture(autouse=True)
def module(home, monkeypatch):
    (home / "their_models.py").write_text(MODELS)
    np.save(home / "labels.npy", np.arange(30) % 3)
    np.save(home / "many.npy", np.random.default_rng(1).normal(size=(120, 2)).astype(np.float32))
    np.save(home / "shifts.npy", np.linspace(0, 1, 30))
    yield
    __import__("sys").modules.pop("their_models", None)


def arguments(command, model, *more):
    """A short run of a command on a model."""
    data = {"likelihood": ["points.npy", "--limit", "8"], "check": ["points.npy"], "bench": ["--data", "many.npy"]}
    short = {
        "sample": ["-n", "30", "--steps", "3"], "recommend": ["--calls", "4", "--starts", "4", "--solver", "ddim"],
        "bench": ["--solvers", "ddim", "--calls", "4", "--samples", "20", "--distances", "energy"],
    }  # fmt: skip
    return [command, model, *data.get(command, []), *short.get(command, []), *more, "--json"]


@pytest.mark.parametrize("command", ALL)
def test_a_reference_is_a_model_everywhere(run, command):
    code, out, err = run(*arguments(command, "their_models:make"))
    assert code in (0, 1 if command == "check" else 0), err
    assert "Traceback" not in err
    assert json.loads(out)


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("their_models:empty", ["gives None", "def empty(): return sd.ScoreModel"]),
        ("their_models:fails", ["fails() raised OSError: no weights"]),
        ("their_models:wants", ["needs arguments"]),
        ("their_models:Net", ["is a network"]),
        ("their_models:absent", ["has no 'absent'"]),
        ("absent_models:make", ["no module 'absent_models'"]),
        ("torn:make", ["raised SyntaxError"]),
        ("~nouser/x", ["is no path that can be"]),
        ("y" * 3000, ["is no path that can be"]),
    ],
)
def test_what_is_no_model_is_one_line(run, command, model, words):
    code, out, err = run(*arguments(command, model))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert all(word in err for word in ["MODEL", *words]), err


@pytest.mark.parametrize("command", ALL)
def test_trust(run, home, command, tmp_path):
    out = [] if command in ("recommend", "check") else ["--out", tmp_path / "out"]
    sd.save(foreign.model().map_net(lambda _: foreign.Net(2)), home / "foreign", config={"dim": 2}, data={"shape": [2]})
    code, _, err = run(*arguments(command, "foreign"))
    assert (code, err.count("\n")) == (2, 1)
    assert "MODEL" in err
    assert "--trust tests" in err
    code, said, err = run(*arguments(command, "foreign", "--trust", "tests", *out))
    assert code in (0, 1 if command == "check" else 0), err
    assert json.loads(said)


@pytest.mark.parametrize("command", ["sample", "recommend", "bench", "likelihood"])
def test_a_condition_changes_the_result_everywhere(run, command, tmp_path):
    def result(*more):
        out = [] if command == "recommend" else ["--out", tmp_path / ("out" + "".join(more).replace("/", ""))]
        code, said, err = run(*arguments(command, "their_models:make", *more, *out))
        assert code == 0, err
        report = json.loads(said)
        if command == "sample":
            return np.load(report["files"]["npz"])["x"].tolist()
        if command == "likelihood":
            return report["log_prob"]
        return report["error"] if command == "recommend" else [row["quality"] for row in report["rows"]]

    plain, same = result(), result("--cond", "label=0")
    assert plain == same
    assert result("--cond", "label=9") != plain
    assert result("--cond", "shift=0.3") != plain
    assert result("--cond", "label=labels.npy", "--cond", "shift=shifts.npy") != plain


def test_conditions_of_a_file_go_with_their_samples(run, tmp_path):
    code, out, err = run(*arguments("sample", "their_models:make", "--cond", "shift=shifts.npy", "--out", tmp_path))
    assert code == 0, err
    x = torch.from_numpy(np.load(json.loads(out)["files"]["npz"])["x"])
    import their_models

    model = sd.ScoreModel(their_models.Net(), sd.VP(), per_sample=("shift",))
    shifts = torch.linspace(0, 1, 30, dtype=torch.float64)
    torch.testing.assert_close(x, sd.sample(model, (30, 2), steps=3, cond={"shift": shifts}).detach())


@pytest.mark.parametrize(
    ("command", "text", "words"),
    [
        ("sample", "label", ["--cond", "name=value"]),
        ("sample", "label=absent.npy", ["--cond", "absent.npy"]),
        ("likelihood", "label=labels", ["--cond", "labels"]),
        ("sample", "label=wide.npy", ["--cond", "5 rows", "30 samples"]),
    ],
)
def test_bad_conditions(run, command, text, words):
    code, out, err = run(*arguments(command, "their_models:make", "--cond", text))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert all(word in err for word in words), err


def test_statistics_are_measured_for_a_network_without(run, tmp_path):
    command = arguments("likelihood", "their_models:make", "--prior", "full", "--out", tmp_path / "a")
    code, _, err = run(*command)
    assert code == 2, err
    code, out, err = run(*command, "--statistics", "points.npy")
    assert code == 0, err
    rows = torch.from_numpy(np.load("points.npy"))
    import their_models

    model = sd.ScoreModel(their_models.Net().requires_grad_(False), sd.VP(), stats=sd.statistics(rows))
    expected = sd.log_likelihood(model, rows[:8], prior="full").log_prob.mean().item()
    assert json.loads(out)["log_prob"] == pytest.approx(expected, rel=1e-6)
    code, _, err = run(*command, "--statistics", "absent.npy")
    assert (code, err.count("\n")) == (2, 1)
    assert "absent.npy" in err


def test_a_result_without_statistics_says_which_prior_it_used(run, tmp_path):
    code, out, err = run("likelihood", "their_models:make", "points.npy", "--limit", "4", "--out", tmp_path)
    assert code == 0, err
    assert "prior" in out


def test_bench_needs_data_for_a_model_without(run):
    code, out, err = run("bench", "their_models:make", "--json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--data FILE" in err


def test_solvers_by_reference_in_bench_and_sample(run, tmp_path):
    for solver in ("plugin:Own", "sdediff.solvers:DDIM:eta=0.5"):
        code, out, err = run(
            *arguments("bench", "their_models:make")[:-7], "--solvers", solver, "--calls", "4", "--samples", "20",
            "--distances", "energy", "--out", tmp_path / solver.partition(":")[0], "--json",
        )  # fmt: skip
        assert code == 0, err
        assert json.loads(out)["rows"]
    code, _, err = run("sample", "points", "--solver", "plugin:Gone")
    assert (code, err.count("\n")) == (2, 1)
    assert "has no 'Gone'" in err
