"""Guidance, strengths and masks of the command `sample`."""

import json

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff import guidance, inverse
from tests.cli.output import parsed

BASE = ("sample", "digits-cond", "-n", 3, "--calls", 5, "--json", "--seed", 2)


def _x(said):
    return torch.from_numpy(np.load(said["files"]["npz"])["x"])


def test_guidance_and_its_negative_condition(run, tmp_path):
    out = tmp_path / "a"
    said = parsed(run(*BASE, "--cond", "label=3", "--guidance", 2, "--negative", "label=8", "--out", out))
    model = guidance.classifier_free(sd.load("digits-cond"), 2.0, negative={"label": 8})
    expected = sd.sample(model, (3, 1, 8, 8), calls=5, seed=2, cond={"label": 3})
    torch.testing.assert_close(_x(said), expected)
    settings = json.loads((out / "settings.json").read_text())
    assert settings["guidance"] == [repr(model.changes[0])]
    assert "scale=2.0, negative={'label': 8}" in settings["guidance"][0]
    assert "label" in settings["cond"]
    plain = parsed(run(*BASE, "--cond", "label=3", "--guidance", 2, "--out", tmp_path / "b"))
    assert "negative={'label': 10}" in plain["guidance"][0]


def test_guided_samples_as_a_job(run, tmp_path, monkeypatch):
    options = ("--cond", "label=3", "--guidance", 2)
    at_once = parsed(run(*BASE, *options, "--out", tmp_path / "a"))
    monkeypatch.setattr("sdediff.cli.drawing.BATCH", 2)
    job = parsed(run(*BASE, *options, "--out", tmp_path / "b"))
    torch.testing.assert_close(_x(job), _x(at_once), rtol=1e-4, atol=1e-4)
    assert job["guidance"] == at_once["guidance"]


def test_guidance_by_a_classifier(run, tmp_path):
    options = ("--classifier", "digits-classifier=7", "--guidance", 4, "-n", 3, "--calls", 5, "--json", "--seed", 2)
    said = parsed(run("sample", "digits-vp", *options, "--out", tmp_path / "a"))
    model = guidance.classifier(sd.load("digits-vp"), sd.load("digits-classifier"), 7, 4.0)
    torch.testing.assert_close(_x(said), sd.sample(model, (3, 1, 8, 8), calls=5, seed=2))
    assert "ByClassifier" in said["guidance"][0]


def test_worker_processes_draw_the_guided_samples_of_one(run, tmp_path):
    options = ("--cond", "label=3", "--guidance", 2, "--negative", "label=8", "--clip=-1,1")
    shards = ("-n", 4, "--micro-batch", 2, "--shard", 2, "--threads", 1)
    for out, workers in (("one", ()), ("two", ("--workers", 2))):
        assert run("sample", "digits-cond", "--calls", 4, *options, *shards, *workers, "--out", tmp_path / out)[0] == 0
    assert (tmp_path / "one/samples.npz").read_bytes() == (tmp_path / "two/samples.npz").read_bytes()


@pytest.mark.parametrize("kind", ["npy", "png"])
def test_images_with_a_strength_and_with_a_mask(run, tmp_path, kind):
    path, mask = tmp_path / f"image.{kind}", tmp_path / "mask.npy"
    levels = (np.arange(64, dtype=np.uint8) * 3 + 20).reshape(1, 1, 8, 8)
    if kind == "png":
        pytest.importorskip("PIL.Image").fromarray(levels[0, 0]).save(path)
        values = torch.from_numpy(levels).float() / 255 * 2 - 1
    else:
        values = torch.from_numpy(levels[:, :, ::-1].copy()).float() / 255 * 2 - 1
        np.save(path, values.numpy())
    anew = np.zeros((1, 1, 8, 8), np.float32)
    anew[..., :4] = 1
    np.save(mask, anew)
    said = parsed(run(*BASE, "--image", path, "--strength", 0.5, "--out", tmp_path / "a"))
    model = sd.load("digits-cond")
    rows = values.expand(3, 1, 8, 8)
    torch.testing.assert_close(_x(said), inverse.image_to_image(model, rows, 0.5, steps=4, seed=2))
    assert (said["strength"], said["image"]) == ("0.5", str(path))
    options = ("--image", path, "--mask", mask, "--method", "replacement")
    filled = _x(parsed(run(*BASE, *options, "--out", tmp_path / "b")))
    known = torch.from_numpy(anew[0] == 0)
    assert torch.equal(filled[:, known], rows[:, known])
    assert not torch.equal(filled, rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--guidance", 2), "--guidance: it needs a condition"),
        (("--cond", "label=3", "--negative", "label=4"), "--negative: it has no effect without guidance"),
        (("--cond", "label=3", "--guidance", 2, "--negative", "tag=4"), "--negative: 'tag' has no condition beside it"),
        (("--classifier", "digits-classifier"), "--classifier: given digits-classifier: write MODEL=CLASS"),
        (("--classifier", "digits-clasifier=3"), "--classifier: "),
        (("--classifier", "digits-classifier=3", "--negative", "label=4"), "--negative: a classifier has no"),
        (("--strength", 0.5), "--strength: it is of an image"),
        (("--image", "none.npy"), "--image: "),
        (("--image", "none.npy", "--strength", 0.5, "--mask", "m.npy"), "--strength: an image is varied"),
        (("--image", "none.npy", "--method", "dps"), "--method: it is of --mask"),
        (("--image", "none.npy", "--pictures"), "--image: it is for up to 256 samples"),
    ],
)
def test_what_cannot_be_is_one_line(run, tmp_path, options, message):
    code, _, err = run(*BASE, *options, "--out", tmp_path / "a")
    assert code == 2
    lines = err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
