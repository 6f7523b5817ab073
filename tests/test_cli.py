"""The command line: every command, machine-readable output, and one line on bad input."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from pyarrow import parquet

import sdediff as sd
from sdediff.benchmark import Report
from sdediff.cli import main
from sdediff.cli.output import plain
from sdediff.datasets import DataSet
from sdediff.nets import MLP

PLUGIN = '''
from dataclasses import dataclass
from sdediff.solvers import Solver

@dataclass(frozen=True)
class Own(Solver):
    """Euler, in a user's words."""
    order = 1
    def step(self, model, x, t, s, state, noise):
        return x + (s.t - t.t) * model(x, t).velocity, None

class Needy(Own):
    def __init__(self, must): pass

process = __import__("sdediff").VP
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with two small models, data for them, and a user's solver."""
    home = tmp_path_factory.mktemp("home with spaces and \u00e9")
    torch.manual_seed(0)
    for name, shape, data in (("pictures", [1, 8, 8], {"name": "digits", "levels": 17}), ("points", [2], {})):
        model = sd.ScoreModel(MLP(int(np.prod(shape)), width=8, blocks=1).eval(), sd.VP())
        sd.save(model, home / name, data={**data, "range": [-1, 1], "shape": shape})
    bare = sd.ScoreModel(MLP(2, width=8, blocks=1).eval(), sd.VP())
    sd.save(bare, home / "bare")
    rows = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    np.save(home / "points.npy", rows)
    np.save(home / "bytes.npy", np.arange(24, dtype=np.uint8).reshape(12, 2))
    np.save(home / "nan.npy", np.where(np.arange(30)[:, None] == 7, np.nan, rows))
    np.save(home / "wide.npy", np.zeros((5, 3), np.float32))
    (home / "empty.npy").write_bytes(b"")
    (home / "broken.npz").write_bytes(b"PK\x03\x04 not an archive")
    (home / "plugin.py").write_text(PLUGIN)
    (home / "torn.py").write_text("def (")
    return home


@pytest.fixture
def run(home, monkeypatch, capsys):
    """run(*arguments) in that folder -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        code = main([str(a) for a in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def parsed(said):
    code, out, err = said
    assert (code, err) == (0, "")
    return json.loads(out)


def test_help_names_every_command(run):
    code, out, _ = run()
    assert code == 0
    for name in ("solvers", "models", "sample", "likelihood", "bench", "check"):
        assert name in out
        assert run(name, "--help")[0] == 0
    assert run("--version") == (0, f"sdediff {sd.__version__}\n", "")


def test_module_runs_as_a_program(home):
    def python(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "sdediff", *arguments], capture_output=True, text=True, cwd=home, check=False
        )

    done = python("solvers", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    assert {entry["name"] for entry in json.loads(done.stdout)} == set(sd.list_solvers())
    wrong = python("sample", "points", "--solver", "hun")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "sdediff: --solver: unknown solver 'hun': did you mean heun, unipc?\n"


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


def test_sample_writes_pictures_and_arrays(run, home, tmp_path):
    out = tmp_path / "a" / "b"
    said = parsed(run("sample", "pictures", "-n", 5, "--calls", 6, "--out", out, "--seed", 3, "--index", 2, "--json"))
    assert (said["calls"], said["moves"], said["n"]) == (6, 5, 5)
    assert said["solver"] == repr(sd.solver("dpmpp_2m"))
    assert (out / "samples.png").read_bytes()[:4] == b"\x89PNG"
    x = np.load(said["files"]["npz"])["x"]
    expected = sd.sample(sd.load(home / "pictures"), (5, 1, 8, 8), calls=6, seed=3, index=2)
    np.testing.assert_array_equal(x, expected.numpy())
    assert sorted(p.name for p in out.iterdir()) == ["samples.npz", "samples.png"]


def test_sample_takes_options_grid_and_dtype(run, tmp_path):
    base = ("sample", "points", "--out", tmp_path, "--json", "-n", 3)
    said = parsed(run(*base, "--solver", "ddim", "--option", "eta=0.5", "--steps", 4, "--grid", "angle"))
    assert (said["solver"], said["moves"], said["calls"]) == ("DDIM(eta=0.5)", 4, 5)
    assert list(said["files"]) == ["npz"]
    said = parsed(
        run(
            *base,
            "--dtype",
            "float64",
            "--solver",
            "predictor_corrector",
            "--option",
            "first=predictor",
            "--option",
            "corrector=annealed_langevin",
        )
    )
    assert said["dtype"] == "float64"
    assert np.load(said["files"]["npz"])["x"].dtype == np.float64


def test_sample_needs_a_shape_where_the_card_has_none(run, tmp_path):
    said = parsed(run("sample", "bare", "--shape", "2", "-n", 4, "--calls", 3, "--out", tmp_path, "--json"))
    assert np.load(said["files"]["npz"])["x"].shape == (4, 2)


def test_samples_come_in_batches_that_agree(run, tmp_path, monkeypatch):
    whole = parsed(run("sample", "points", "-n", 7, "--calls", 4, "--out", tmp_path / "a", "--json"))
    monkeypatch.setattr("sdediff.cli.sample._BATCH", 3)
    parts = parsed(run("sample", "points", "-n", 7, "--calls", 4, "--out", tmp_path / "b", "--json"))
    one, many = (np.load(said["files"]["npz"])["x"] for said in (whole, parts))
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-4)
    assert whole["calls"] == parts["calls"]


def test_likelihood_of_levels_gives_bits(run, home, tmp_path):
    said = parsed(
        run("likelihood", "points", "bytes.npy", "--levels", 32, "--range", "0,31", "--trace", "exact",
            "--rtol", 1e-3, "--atol", 1e-3, "--limit", 10, "--out", tmp_path, "--json")
    )  # fmt: skip
    table = parquet.read_table(said["files"]["parquet"]).to_pydict()
    columns = ["index", "log_prob", "std_error", "bits_per_dim", "status", "calls", "latent_norm", "solver_error"]
    assert list(table) == columns
    assert table["index"] == list(range(10))
    assert set(table["status"]) == {"ok"}
    data = DataSet(np.load(home / "bytes.npy"), 32, (0, 31))
    x = data.dequantised(seed=0, index=range(10))
    result = sd.log_likelihood(sd.load(home / "points"), x, trace="exact", rtol=1e-3, atol=1e-3, micro_batch=64)
    np.testing.assert_allclose(table["log_prob"], result.log_prob.numpy(), rtol=1e-12)
    bits = sd.bits_per_dim(result, levels=32, range=(-1, 1))
    np.testing.assert_allclose(table["bits_per_dim"], bits.numpy(), rtol=1e-12)
    norms = result.latent.flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(table["latent_norm"], norms, rtol=1e-6)
    assert said["bits_per_dim"] == pytest.approx(bits.mean().item())
    assert said["bits_per_dim_std_error"] == pytest.approx(bits.std().item() / 10**0.5)
    assert said["log_prob"] == pytest.approx(result.log_prob.mean().item())
    assert (said["samples"], said["left_out"], said["probe_error"]) == (10, 0, 0)
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert saved["settings"]["trace"] == "exact"
    assert saved["versions"]["torch"] == torch.__version__


def test_likelihood_by_a_bound(run, home, tmp_path):
    said = parsed(
        run("likelihood", "points", "bytes.npy", "--levels", 32, "--range", "0,31", "--method", "vlb", "--steps", 8,
            "--prior", "unit", "--limit", 10, "--out", tmp_path, "--json")
    )  # fmt: skip
    assert (said["method"], said["prior"]) == ("vlb", "unit")
    x = DataSet(np.load(home / "bytes.npy"), 32, (0, 31)).tensor()[:10]
    bins, model = sd.Discrete(32), sd.load(home / "points")
    direct = sd.log_likelihood(model, x, method="vlb", steps=8, prior="unit", discrete=bins, micro_batch=64)
    assert said["bits_per_dim"] == pytest.approx(sd.bits_per_dim(direct).mean().item())
    assert "bound" in said["density"]


def test_likelihood_of_continuous_data_has_no_bits(run, tmp_path):
    base = ("likelihood", "points", "points.npy", "--limit", 6, "--rtol", 1e-2, "--atol", 1e-2)
    drawn = ("--probes", 3, "--trace", "gaussian", "--method", "RK45", "--t0", 1e-3, "--out", tmp_path / "drawn")
    said = parsed(run(*base, "--json", *drawn))
    assert said["bits_per_dim"] is None
    assert said["probe_error"] >= 0
    assert (said["t0"], said["settings"]["integrator"]) == (1e-3, "RK45")
    assert set(parquet.read_table(said["files"]["parquet"]).to_pydict()["bits_per_dim"]) == {None}
    code, out, _ = run(*base, "--method", "ode", "--out", tmp_path)
    assert code == 0
    assert "none: continuous data" in out
    assert "unknown" in out  # one probe has no spread
    assert str(tmp_path / "likelihood.parquet") in out


def test_likelihood_of_the_package_s_data(run, tmp_path):
    said = parsed(
        run("likelihood", "pictures", "digits", "--split", "train", "--limit", 4, "--rtol", 1e-2, "--atol", 1e-2,
            "--out", tmp_path, "--json")
    )  # fmt: skip
    assert (said["data"], said["levels"], said["dims"]) == ("digits:train", 17, 64)


def test_bench_writes_a_table_a_picture_and_a_file(run, tmp_path):
    base = ("bench", "--problem", "ring", "--solver", "heun", "--solver", "ddim:eta=0.5", "--samples", 40)
    code, out, err = run(*base, "--calls", "3,6", "--calls", "12", "--distance", "energy", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert "ring: real data" in out
    assert str(tmp_path / "bench.png") in out
    report = Report.load(tmp_path / "bench.json")
    assert [(row.solver, row.calls) for row in report.rows] == [
        ("heun", 3), ("heun", 5), ("heun", 11), ("ddim:eta=0.5", 3), ("ddim:eta=0.5", 6), ("ddim:eta=0.5", 12),
    ]  # fmt: skip
    assert report.rows[-1].made == "DDIM(eta=0.5)"
    assert (tmp_path / "bench.png").stat().st_size > 20_000
    said = parsed(run(*base, "--calls", 2, "--calls", 3, "--distance", "energy", "--out", tmp_path, "--json"))
    assert len(said["rows"]) == 3
    assert said["skipped"][0]["asked"] == 2


def test_check_runs_the_kit_on_own_and_registered_solvers(run, monkeypatch):
    from sdediff import testing

    seen = []

    def kit(solver):
        seen.append(solver)
        return [testing.Check("shapes", "all")]

    monkeypatch.setattr(testing, "check_solver", kit)
    assert parsed(run("check", "plugin:Own", "--json")) == {
        "solver": "Own()", "passed": [{"name": "shapes", "detail": "all"}]
    }  # fmt: skip
    code, out, _ = run("check", "heun")
    assert code == 0
    assert "passes 1 checks" in out
    assert seen == [seen[0], sd.solver("heun")]


def test_check_that_fails_says_which_in_one_line(run, monkeypatch):
    from sdediff import testing

    def kit(solver):
        raise testing.ConformanceError("Own() fails 'order':\n measured 0.5")

    monkeypatch.setattr(testing, "check_solver", kit)
    assert run("check", "plugin:Own") == (1, "", "sdediff: plugin:Own: Own() fails 'order': measured 0.5\n")


BAD = [
    (["smaple"], ["sample"]),
    (["sample"], ["MODEL"]),
    (["sample", "nope"], ["MODEL", "nope"]),
    (["sample", "points.npy"], ["MODEL", "folder"]),
    (["sample", "points", "--wrong"], ["--wrong"]),
    (["sample", "points", "-n", "0"], ["-n", "1"]),
    (["sample", "points", "--steps", "x"], ["--steps", "integer"]),
    (["sample", "points", "--steps", "3", "--calls", "4"], ["--calls", "one of them"]),
    (["sample", "points", "--calls", "1"], ["--calls", "at least 2"]),
    (["sample", "points", "--calls", "5", "--solver", "ode"], ["--calls", "rtol"]),
    (["sample", "points", "--solver", "dimm"], ["--solver", "ddim"]),
    (["sample", "points", "--grid", "karas"], ["--grid", "karras"]),
    (["sample", "points", "--grid", "knots"], ["--grid", "Table"]),
    (["sample", "points", "--option", "eta=1"], ["--option", "no options"]),
    (["sample", "points", "--solver", "ddim", "--option", "etta=1"], ["--option", "eta"]),
    (["sample", "points", "--solver", "ddim", "--option", "eta"], ["--option", "key=value"]),
    (["sample", "points", "--solver", "ddim", "--option", "eta=few"], ["--option", "number"]),
    (["sample", "points", "--solver", "ddim", "--option", "eta=3"], ["--option", "[0, 1]"]),
    (["sample", "points", "--device", "gpu"], ["--device", "cpu"]),
    (["sample", "points", "--device", "meta"], ["--device", "cpu"]),
    (["sample", "points", "--dtype", "float23"], ["--dtype", "float32"]),
    (["sample", "points", "--seed", "-1"], ["--seed"]),
    (["sample", "points", "--index", "99999999999"], ["indices"]),
    (["sample", "points", "--out", "points.npy"], ["--out", "points.npy"]),
    (["sample", "points", "--out", "points.npy/deep"], ["--out", "folder"]),
    (["sample", "points", "--shape", "3"], ["--shape", "(2,)"]),
    (["sample", "bare"], ["--shape", "1,8,8"]),
    (["sample", "bare", "--shape", "two"], ["--shape", "1,8,8"]),
    (["likelihood", "points"], ["DATA"]),
    (["likelihood", "points", "digts"], ["DATA", "digits"]),
    (["likelihood", "points", "digits"], ["DATA", "(2,)"]),
    (["likelihood", "points", "absent.npy"], ["DATA", "absent.npy"]),
    (["likelihood", "points", "points.npy", "--end", "nosied"], ["--end", "noised"]),
    (["likelihood", "points", "points.npy", "--prior", "ful"], ["--prior", "full"]),
    (["likelihood", "points", "empty.npy"], ["DATA", "empty.npy"]),
    (["likelihood", "points", "broken.npz"], ["DATA", "broken.npz"]),
    (["likelihood", "points", "nan.npy", "--limit", "9", "--out", "nan"], ["nan.npy", "row 7", "--skip-bad"]),
    (["likelihood", "points", "wide.npy"], ["DATA", "(3,)", "(2,)"]),
    (["likelihood", "points", "bytes.npy", "--levels", "4", "--range", "0,3"], ["bytes.npy", "[0, 3]"]),
    (["likelihood", "points", "bytes.npy", "--range", "3"], ["--range", "0,255"]),
    (["likelihood", "points", "bytes.npy", "--range", "5,1"], ["--range", "0,255"]),
    (["likelihood", "points", "points.npy", "--key", "a"], ["DATA", "key"]),
    (["likelihood", "pictures", "digits", "--split", "tets"], ["--split", "test"]),
    (["likelihood", "pictures", "digits", "--levels", "16"], ["--levels"]),
    (["likelihood", "points", "points.npy", "--trace", "exakt"], ["--trace", "exact"]),
    (["likelihood", "points", "points.npy", "--method", "RK54"], ["--method", "RK45"]),
    (["likelihood", "points", "points.npy", "--rtol", "nan"], ["--rtol", "1e-5"]),
    (["likelihood", "points", "points.npy", "--atol", "-1"], ["--atol", "1e-5"]),
    (["likelihood", "points", "points.npy", "--t0", "2"], ["--t0", "T=1.0"]),
    (["likelihood", "points", "points.npy", "--micro-batch", "0"], ["--micro-batch"]),
    (["likelihood", "points", "points.npy", "--out", "points.npy"], ["--out"]),
    (["bench", "--problem", "gmm46"], ["--problem", "gmm64"]),
    (["bench", "--problem", "ring", "--solver", "hun"], ["--solver", "heun"]),
    (["bench", "--problem", "ring", "--solver", "ddim:eta"], ["--solver", "key=value"]),
    (["bench", "--problem", "ring", "--calls", "few"], ["--calls", "5,10,20"]),
    (["bench", "--problem", "ring", "--calls", "0"], ["--calls", "5,10,20"]),
    (["bench", "--problem", "ring", "--samples", "5", "--out", "b"], ["samples=5", "at least 20"]),
    (["bench", "--problem", "ring", "--distance", "mdd"], ["--distance", "mmd"]),
    (["bench", "--problem", "ring", "--solver", "heun", "--calls", "1", "--out", "b"], ["calls=1", "at least 3"]),
    (["bench", "--problem", "ring", "--out", "points.npy"], ["--out"]),
    (["check"], ["SOLVER"]),
    (["check", "huen"], ["SOLVER", "heun"]),
    (["check", "nowhere.at_all:Mine"], ["SOLVER", "nowhere"]),
    (["check", "plugin:Absent"], ["SOLVER", "Absent"]),
    (["check", "plugin:Needy"], ["SOLVER", "without arguments"]),
    (["check", "plugin:process"], ["SOLVER", "VP"]),
    (["check", "torn:Mine"], ["SOLVER", "SyntaxError"]),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda v: " ".join(v))
def test_bad_input_is_one_line_that_names_it(run, arguments, words):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("sdediff: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_ctrl_c_ends_with_130_and_one_line(run, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sd, "sample", interrupted)
    assert run("sample", "points", "--out", tmp_path) == (130, "", "sdediff: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_ours_is_one_line_and_with_debug_a_traceback(run, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(sd, "sample", broken)
    said = (1, "", "sdediff: ZeroDivisionError: by zero (SDEDIFF_DEBUG=1 shows where)\n")
    assert run("sample", "points", "--out", tmp_path) == said
    monkeypatch.setenv("SDEDIFF_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("sample", "points", "--out", tmp_path)


def test_samples_that_are_not_finite_are_not_written(run, tmp_path, monkeypatch):
    record = sd.Record(torch.full((64, 2), torch.nan), torch.ones(2), torch.ones(2), 3)
    monkeypatch.setattr(sd, "sample", lambda *_, **__: record)
    code, _, err = run("sample", "points", "--out", tmp_path)
    assert (code, err.count("\n")) == (1, 1)
    assert "64 of 64 samples are not finite" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_named(run, tmp_path):
    tmp_path.chmod(0o500)
    code, _, err = run("sample", "points", "--out", tmp_path / "deep")
    tmp_path.chmod(0o700)
    assert code == 2
    assert "--out" in err


def test_plain_values_are_json():
    given = {"a": (1, float("nan")), "b": [float("inf"), None, True], 3: "x"}
    assert plain(given) == {"a": [1, None], "b": [None, None, True], "3": "x"}
