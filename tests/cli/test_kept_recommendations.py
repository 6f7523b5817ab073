"""Recommendations that are kept: `--solver auto` measures once, and printed commands give the printed errors."""

import json
import shlex
import shutil

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.analysis import paths, recommend
from sdediff.analysis.selection import AUTO_SEED
from sdediff.cli import main
from sdediff.nets import MLP
from tests.cli.output import parsed

FEW = {"candidates": ["ddim", "dpmpp_2m"], "starts": 6}
TUNING = 24


@pytest.fixture
def network():
    torch.manual_seed(0)
    return sd.ScoreModel(MLP(2, width=8, blocks=1).eval(), sd.VP())


@pytest.fixture
def run(network, tmp_path, monkeypatch, capsys):
    """run(*arguments) beside a model folder "points" -> (exit code, stdout, stderr), with run.calls of the network."""
    sd.save(network, tmp_path / "points", data={"shape": [2]})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDEDIFF_CACHE", str(tmp_path / "cache"))

    def quick(model, shape, **options):
        return recommend(model, shape, **{**options, "candidates": options["candidates"] or FEW["candidates"]})

    monkeypatch.setattr("sdediff.analysis.recommend", quick)
    forward = MLP.forward

    def counted(self, *args, **options):
        run.calls += 1
        return forward(self, *args, **options)

    monkeypatch.setattr(MLP, "forward", counted)

    def run(*arguments):
        run.calls = 0
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return run


def test_auto_costs_no_evaluation_the_second_time(run, tmp_path):
    line = ("sample", "points", "--solver", "auto", "--calls", "4", "-n", "8", "--json")
    first = parsed(run(*line))
    measuring = run.calls
    again = parsed(run(*line))
    assert (run.calls, measuring > 100) == (4, True)
    assert again["solver"] == first["solver"]
    assert [p.name.startswith("recommendation-") for p in (tmp_path / "points" / "recommendations").iterdir()] == [True]
    parsed(run(*line, "--refresh"))
    assert run.calls == measuring
    parsed(run("recommend", "points", "--calls", "4", "--json"))
    assert run.calls == 0
    parsed(run("sample", "points", "--solver", "auto", "--steps", "3", "--json"))
    assert run.calls == 4  # three steps and the last call are the same question
    parsed(run("sample", "points", "--solver", "auto", "--calls", "5", "--json"))
    assert run.calls > 100


def test_other_weights_and_damaged_files_are_measured_again(run, network, tmp_path):
    line = ("sample", "points", "--solver", "auto", "--calls", "3", "-n", "2", "--json")
    parsed(run(*line))
    [file] = (tmp_path / "points" / "recommendations").iterdir()
    content = file.read_text()
    changed = json.loads(content)
    changed["answer"]["error"] /= 2
    for damaged in (content[:100], "[]", "[" * 100_000, json.dumps(changed), '{"question": 3}', ""):
        file.write_text(damaged)
        parsed(run(*line))
        assert run.calls > 100
        assert json.loads(file.read_text())["question"] == changed["question"]
    with torch.no_grad():
        next(network.net.parameters()).add_(1e-3)
    sd.save(network, tmp_path / "other", data={"shape": [2]})
    shutil.copytree(file.parent, tmp_path / "other" / "recommendations")
    parsed(run("sample", "other", *line[2:]))
    assert run.calls > 100


@pytest.mark.parametrize("options", [[], ["--dtype", "float64"], ["--solver", "ddim", "--seed", "5"]])
def test_printed_commands_give_the_printed_errors(run, tmp_path, options):
    """Each is run from the starts that were measured, and its samples compared with the reference's."""
    calls = 2 if "--solver" in options else 4  # one step has no interior times, so the best has a name
    given = parsed(run("recommend", "points", "--calls", calls, "--starts", "256", *options, "--json"))
    code, out, _ = run("recommend", "points", "--calls", calls, "--starts", "256", *options)
    assert code == 0
    assert given["commands"]
    dtype = torch.float64 if "float64" in options else None
    model = sd.load(tmp_path / "points", dtype=dtype)
    seed = 5 if "--seed" in options else AUTO_SEED
    reference = paths(model, (256 + TUNING, 2), given["reference"]["calls"], seed=seed)
    for command, error in given["commands"].items():
        assert f"{command}  # median {error:.2e}" in out
        code, said, warned = run(*shlex.split(command)[1:], "-n", 256, "--seed", seed, "--json")
        # So few steps may be right on these points and not on Gaussian data of their scale.
        assert (code, [line for line in warned.splitlines() if "is not accurate in" not in line]) == (0, [])
        files = json.loads(said)["files"]
        with np.load(files["npz"]) as file:
            gap = torch.from_numpy(file["x"]).double() - reference.end[:256].double()
        assert gap.square().mean(1).sqrt().median().item() == pytest.approx(error, rel=1e-12)


def test_embedded_models_are_kept_in_the_cache_and_the_package_untouched(run, monkeypatch, tmp_path):
    from sdediff.cli.recommended import folder_for

    assert folder_for("digits-vp") == tmp_path / "cache" / "recommendations"
    assert folder_for("points") == (tmp_path / "points" / "recommendations").relative_to(tmp_path)
    code, _, err = run("sample", "points", "--refresh")
    assert (code, "--refresh" in err) == (2, True)


def test_python_keeps_what_it_is_asked_to_keep_alone(network, tmp_path):
    first = recommend(network, (2,), calls=4, keep=tmp_path, **FEW)
    again = recommend(network, (2,), calls=4, keep=tmp_path, **FEW)
    assert again.solver == first.solver
    assert torch.equal(again.times, first.times)
    for name in ("grid", "calls", "error", "rms", "candidates", "python", "command", "reference_error", "seconds"):
        assert getattr(again, name) == getattr(first, name)
    fresh = recommend(network, (2,), calls=4, keep=tmp_path, refresh=True, **FEW)
    assert fresh.seconds != first.seconds
    assert len(list(tmp_path.iterdir())) == 1
    for other in ({"calls": 5}, {"seed": 1}, {"denoise": False}, {"dtype": torch.float64}, {"stop": 0.01}):
        recommend(network, (2,), **{"calls": 4, **FEW, **other}, keep=tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    with pytest.raises(sd.Error, match="refresh=True has no effect without keep="):
        recommend(network, (2,), calls=4, refresh=True, **FEW)
    with pytest.raises(sd.Error, match="without weights cannot be recognised again"):
        recommend(sd.ScoreModel(lambda x, t: x, sd.VP()), (2,), calls=4, keep=tmp_path, **FEW)
    with pytest.raises(sd.Error, match="cannot be recognised again: give plain values"):
        recommend(sd.guidance.map_prediction(network, lambda p, m: p), (2,), calls=4, keep=tmp_path, **FEW)
