"""`sdediff adapt` and the option --lora: a file that changes a model's samples, and refusals in one line."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("peft")

from sdediff.cli import main

pytestmark = pytest.mark.extras


def run(capsys, *words):
    code = main([*map(str, words)])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def adapter(tmp_path, capsys):
    path = tmp_path / "adapters" / "three.safetensors"
    options = ["--only", 3, "--updates", 3, "--batch", 8, "--split", "train", "--quiet", "--json"]
    code, out, _ = run(capsys, "adapt", "digits-vp", "digits", "--out", path, *options)
    assert code == 0
    facts = json.loads(out)
    assert (facts["rows"], facts["weights"], facts["file"]) == (389, 2048, str(path))
    assert facts["share"] < 0.03
    return path


def samples(capsys, folder, *words):
    code, _, err = run(capsys, "sample", "digits-vp", "-n", 2, "--calls", 3, "--out", folder, "--quiet", *words)
    assert code == 0, err
    with np.load(folder / "samples.npz") as stored:
        return stored["x"]


def test_an_adapter_changes_samples_by_its_scale(adapter, tmp_path, capsys):
    plain = samples(capsys, tmp_path / "plain")
    whole = samples(capsys, tmp_path / "whole", "--lora", adapter)
    half = samples(capsys, tmp_path / "half", "--lora", f"{adapter}:0.5")
    none = samples(capsys, tmp_path / "none", "--lora", f"{adapter}:0")
    np.testing.assert_array_equal(none, plain)
    assert np.abs(whole - plain).max() > np.abs(half - plain).max() > 0


def test_a_job_draws_what_one_batch_gives(adapter, tmp_path, capsys):
    one = samples(capsys, tmp_path / "one", "--lora", adapter)
    job = samples(capsys, tmp_path / "job", "--lora", adapter, "--pictures")
    np.testing.assert_allclose(job, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sample", "digits-vp", "--lora", "absent.safetensors"], "--lora: absent.safetensors: no such file"),
        (["sample", "digits-vp", "--prompt", "a shoe"], "--prompt: the model has no text encoder"),
        (
            ["adapt", "digits-vp", "digits", "--only", "11", "--out", "a.safetensors"],
            "no row has the label 11",
        ),
        (["adapt", "digits-vp", "digits", "--target", "queries", "--out", "a.safetensors"], "no linear layer of such"),
    ],
)
def test_refusals_are_one_line(words, line, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *words)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert re.search(line, err), err
