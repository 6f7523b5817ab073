"""`sdediff train`: a run by name, gone on with, its output, and its errors in one line."""

import json

import numpy as np
import pytest

import sdediff as sd
from sdediff.cli import main

QUICK = ["--set", "training.batch=8", "--set", "network.width=8", "--quiet"]


def run(capsys, *words):
    code = main(["train", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_a_system_is_trained_sampled_and_gone_on_with(tmp_path, capsys):
    code, out, _ = run(capsys, "ddpm", "--out", tmp_path / "run", "--updates", 2, *QUICK, "--json")
    assert code == 0
    facts = json.loads(out)
    assert (facts["config"], facts["updates"], facts["first"]) == ("ddpm", 2, 0)
    model = sd.load(facts["model"])
    assert sd.sample(model, (2, 1, 8, 8), steps=3).shape == (2, 1, 8, 8)
    code, out, _ = run(capsys, "ddpm", "--out", tmp_path / "run", "--updates", 4, *QUICK)
    assert code == 0
    assert "ddpm: updates 2 to 4" in out
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 4
    code, _, err = run(capsys, "ddpm", "--out", tmp_path / "run", "--updates", 4, *QUICK, "--fresh")
    assert code == 2
    assert "holds checkpoints up to update-00000004" in err


def test_data_of_ones_own(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    code, _, err = run(
        capsys, "flow_magic", "--data", tmp_path / "x.npy", "--out", tmp_path / "run", "--updates", 2, *QUICK
    )
    assert code == 0, err
    assert sd.load(tmp_path / "run" / "model").card["data"]["shape"] == [3]
    labels = np.arange(64) % 10
    np.save(tmp_path / "labels.npy", labels)
    np.save(tmp_path / "images.npy", np.zeros((64, 8, 8), dtype=np.uint8))
    words = ["edm_class", "--data", tmp_path / "images.npy", "--out", tmp_path / "class", "--updates", 1, *QUICK]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "--labels" in err
    assert run(capsys, *words, "--labels", tmp_path / "labels.npy")[0] == 0


def test_held_out_rows_are_measured_along_the_way(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    words = ["flow_magic", "--data", tmp_path / "x.npy", "--out", tmp_path / "run", "--updates", 2, *QUICK]
    measured = ["--validate-every", 1, "--held-out", tmp_path / "x.npy", "--json"]
    code, out, err = run(capsys, *words, *measured)
    assert code == 0, err
    facts = json.loads(out)
    assert [check["update"] for check in facts["checks"]] == [1, 2]
    assert {"held_out_loss", "gain", "gap", "nats"} < set(facts["checks"][0])
    assert facts["peak_memory"] > 1 << 20
    for wrong, said in (
        (["--validate-every", 1], "give --held-out FILE"),
        (["--held-out", "x"], "--validate-every too"),
    ):
        code, _, err = run(capsys, *words, *wrong)
        assert (code, said in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["dpdm"], "CONFIG: dpdm: cannot be read: unknown configuration 'dpdm': did you mean"),
        (["vp", "--set", "training.rate"], "--set: 'training.rate' is not section.field=value"),
        (["vp", "--set", "training.rat=1"], "CONFIG: .*vp.toml: training.rat: unknown field 'rat'"),
        (["vp", "--set", "objective.weighting=snr"], "CONFIG: objective: unknown weighting 'snr'"),
        (["flow_magic"], "--data: the configuration names no data"),
        (["vp", "--data", "nowhere.npy"], "--data: nowhere.npy: no such file"),
    ],
)
def test_errors_are_one_line_and_name_the_option(words, match, tmp_path, capsys):
    import re

    code, out, err = run(capsys, *words, "--out", tmp_path / "run", *QUICK)
    assert code == 2
    assert not out
    assert re.search(match, err), err
    assert err.count("\n") == 1
