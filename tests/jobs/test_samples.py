"""Samples as a job: values of `sd.sample`, every engine's bytes, files, resumption, failures."""

import json

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.jobs import JobError
from sdediff.nets import MLP
from tests.jobs.networks import network


def job(out, model=None, **options):
    given = {"samples": 11, "shape": (2,), "calls": 4, "micro_batch": 3, "progress": False, "say": lambda _: None}
    return sd.sample_job(model or network(), out, **{**given, **options})


def drawn(out):
    return np.load(out / "samples.npz")["x"]


def test_sample_i_is_that_of_sample(tmp_path):
    found = job(tmp_path, seed=3, index=5)
    parts = [sd.sample(network(), (min(3, 11 - i), 2), calls=4, seed=3, index=5 + i) for i in range(0, 11, 3)]
    np.testing.assert_array_equal(drawn(tmp_path), torch.cat(parts).numpy())
    assert (found.samples, found.calls, found.failed) == (11, 4, ())
    settings = json.loads((tmp_path / "settings.json").read_text())
    inside = json.loads(str(np.load(tmp_path / "samples.npz")["settings"]))
    assert settings["seed"] == inside["seed"] == 3
    assert (inside["samples"], inside["index"], settings["calls"]) == (11, 5, 4)


def test_the_bytes_depend_on_neither_shards_nor_parts_nor_interruptions(tmp_path):
    job(tmp_path / "one", shard=3)
    whole = (tmp_path / "one/samples.npz").read_bytes()
    job(tmp_path / "two", shard=12)
    ends = [job(tmp_path / "three", shard=3, part=f"{i}/2") for i in range(2)]
    assert ends[0] is None
    assert ends[1] is not None
    inner, calls = network(), 0

    class Stopping(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = inner.net

        def forward(self, x, t):
            nonlocal calls
            calls += 1
            if calls == 11:
                raise KeyboardInterrupt
            return self.net(x, t)

    stopping = sd.ScoreModel(Stopping().eval(), inner.sde)
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path / "four", stopping, shard=3)
    job(tmp_path / "four", stopping, shard=3)
    for name in ("two", "three", "four"):
        assert (tmp_path / name / "samples.npz").read_bytes() == whole


def test_workers_draw_the_same_samples(tmp_path):
    torch.manual_seed(0)
    model = sd.ScoreModel(MLP(2, width=8, blocks=1).eval(), sd.VP())
    sd.save(model, tmp_path / "model", data={"shape": [2]})
    job(tmp_path / "one", str(tmp_path / "model"), shape=None, num_threads=1)
    # A model that was loaded by name goes to other processes by that name.
    job(tmp_path / "two", sd.load(tmp_path / "model"), shape=None, num_threads=1, workers=1)
    assert (tmp_path / "one/samples.npz").read_bytes() == (tmp_path / "two/samples.npz").read_bytes()
    stored = json.loads((tmp_path / "two/manifest.json").read_text())["model"]
    assert (stored["module"], stored["reference"]) == ("sdediff.nets.mlp", str(tmp_path / "model"))
    with pytest.raises(JobError, match=r"model= is a ScoreModel, which the processes of engine='workers' cannot load"):
        job(tmp_path / "three", model, workers=1)


def test_more_samples_continue_a_finished_job(tmp_path):
    job(tmp_path / "out", samples=9, shard=3)
    job(tmp_path / "out", samples=17, shard=3)
    job(tmp_path / "whole", samples=17, shard=3)
    assert (tmp_path / "out/samples.npz").read_bytes() == (tmp_path / "whole/samples.npz").read_bytes()
    with pytest.raises(JobError, match="units is 17 there and 9 now"):
        job(tmp_path / "out", samples=9, shard=3)
    with pytest.raises(JobError, match=r"settings\.seed is 0 there and 1 now"):
        job(tmp_path / "out", samples=17, seed=1, shard=3)


def test_images_are_shown_and_written_one_by_one(tmp_path):
    model = network(16)
    found = job(tmp_path, model, shape=(1, 4, 4), samples=7, pictures=True)
    assert (tmp_path / "samples.png").read_bytes()[:4] == b"\x89PNG"
    names = sorted(p.name for p in (tmp_path / "pictures").iterdir())
    assert names == [f"{i:08d}.png" for i in range(7)]
    assert set(found.files) == {"npz", "settings", "png", "pictures"}
    from PIL import Image

    x = drawn(tmp_path)[2, 0]
    grey = np.rint((x.astype(float) + 1) / 2 * 255).clip(0, 255)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "pictures/00000002.png")), grey)


def test_samples_that_are_not_finite_are_named(tmp_path):
    inner = network()

    class Failing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = inner.net

        def forward(self, x, t):
            bad = (x[:, :1] > 0.5) & (t.reshape(-1, 1) > 0.9)
            return torch.where(bad, torch.nan, self.net(x, t))

    found = job(tmp_path, sd.ScoreModel(Failing().eval(), inner.sde))
    bad = np.flatnonzero(np.isnan(drawn(tmp_path)).any(1)).tolist()
    assert list(found.failed) == bad
    assert 0 < len(bad) < 11


@pytest.mark.parametrize(
    ("options", "words"),
    [({"samples": 0}, "samples=0"), ({"shard": 4}, "multiple of micro_batch=3"), ({"shape": None}, "shape"),
     ({"part": "2/2"}, "part=2/2"), ({"engine": "spark"}, "engine"), ({"seed": -1}, "seed")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        job(tmp_path / "out", **options)
    assert not (tmp_path / "out/manifest.json").exists()
