"""The command `sample`: what it writes, its options, batches."""

import json

import numpy as np
import torch

import sdediff as sd
from tests.cli.output import parsed


def test_sample_writes_pictures_and_arrays(run, home, tmp_path):
    out = tmp_path / "a" / "b"
    said = parsed(run("sample", "pictures", "-n", 5, "--calls", 6, "--out", out, "--seed", 3, "--index", 2, "--json"))
    assert (said["calls"], said["steps"], said["n"]) == (6, 5, 5)
    assert said["solver"] == repr(sd.solver("dpmpp_2m"))
    assert (out / "samples.png").read_bytes()[:4] == b"\x89PNG"
    x = np.load(said["files"]["npz"])["x"]
    expected = sd.sample(sd.load(home / "pictures"), (5, 1, 8, 8), calls=6, seed=3, index=2)
    np.testing.assert_array_equal(x, expected.numpy())
    assert sorted(p.name for p in out.iterdir()) == ["samples.npz", "samples.png", "settings.json"]


def test_sample_takes_options_grid_and_dtype(run, tmp_path):
    base = ("sample", "points", "--out", tmp_path, "--json", "-n", 3)
    said = parsed(run(*base, "--solver", "ddim", "--option", "eta=0.5", "--steps", 4, "--grid", "angle"))
    assert (said["solver"], said["steps"], said["calls"]) == ("DDIM(eta=0.5)", 4, 5)
    assert list(said["files"]) == ["npz", "settings"]
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
    monkeypatch.setattr("sdediff.cli.drawing.BATCH", 3)
    parts = parsed(run("sample", "points", "-n", 7, "--calls", 4, "--out", tmp_path / "b", "--json"))
    one, many = (np.load(said["files"]["npz"])["x"] for said in (whole, parts))
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-4)
    assert whole["calls"] == parts["calls"]


def test_sample_prints_what_it_did_and_keeps_the_settings(run, tmp_path):
    code, out, err = run("sample", "points", "-n", 2, "--calls", 5, "--seed", 4, "--out", tmp_path)
    assert code == 0, err
    assert out.splitlines()[0] == "dpmpp_2m on log_snr, 5 calls, seed 4"
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert (settings["seed"], settings["calls"], settings["n"]) == (4, 5, 2)


def test_many_samples_are_a_job_that_says_so_when_it_goes_on(run, tmp_path):
    many = ("sample", "points", "--samples", 300, "--calls", 3, "--out", tmp_path)
    said = parsed(run(*many, "--json"))
    assert (said["n"], said["calls"]) == (300, 3)
    first = np.load(tmp_path / "samples.npz")["x"]
    code, out, err = run(*many)
    assert (code, "begun before: all 300 samples are done" in err) == (0, True)
    assert out.splitlines()[0] == "dpmpp_2m on log_snr, 3 calls, seed 0"
    np.testing.assert_array_equal(np.load(tmp_path / "samples.npz")["x"], first)
    code, _, err = run(*many, "--part", "3/3")
    assert (code, err.startswith("sdediff: --part: part=3/3")) == (2, True)


def test_samples_that_are_not_finite_are_not_written(run, tmp_path, monkeypatch):
    record = sd.SampleRecord(torch.full((64, 2), torch.nan), torch.ones(2), torch.ones(2), 3)
    monkeypatch.setattr(sd, "sample", lambda *_, **__: record)
    code, _, err = run("sample", "points", "--out", tmp_path)
    assert (code, err.count("\n")) == (1, 1)
    assert "64 of 64 samples are not finite" in err
    assert list(tmp_path.iterdir()) == []
