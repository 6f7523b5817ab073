"""`sdediff import --infer`: checkpoints whose settings nobody knows; the check has the last word."""

import json

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.cli import main
from tests.cli.clusters import checkpoint, points

NETWORK = ["--network", "tests.cli.clusters:Clusters"]


@pytest.fixture
def here(tmp_path):
    np.save(tmp_path / "points.npy", points(400))
    checkpoint(tmp_path / "a.pth")
    return tmp_path


def test_a_checkpoint_without_settings_is_wired_by_data(here, capsys):
    words = ["import", here / "a.pth", *NETWORK, "--infer", here / "points.npy", "--to", here / "made", "--json"]
    assert main([*map(str, words)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["inference"]["right"] is True
    assert said["inference"]["check"]["status"] in ("right", "nearly")
    assert said["predicts"] == "eps"
    model = sd.load(here / "made", trust=["tests"])
    assert model.card["data"]["shape"] == [2]
    assert "averaged weights" in said["note"]
    x = torch.tensor(points(5), dtype=torch.float32)
    right = sd.ScoreModel(model.net, sd.VP(), "eps", sd.Clock("t", 999))
    for lam in (1.6, 0.0):
        ours, theirs = (m(x, float(m.sde.t_of_lam(lam))).x0 for m in (model, right))
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


def test_a_wrong_best_is_not_written(here, capsys):
    rows = np.random.default_rng(0).normal(size=(100, 2)) * [3.0, 0.01]  # not what the network was made for
    np.save(here / "other.npy", rows)
    words = ["import", here / "a.pth", *NETWORK, "--infer", here / "other.npy", "--to", here / "made"]
    assert main([*map(str, words)]) == 1
    assert "None of the usual wirings is right" in capsys.readouterr().out
    assert not (here / "made").exists()


def test_data_that_cannot_be_read_name_the_flag(here, capsys):
    words = ["import", here / "a.pth", *NETWORK, "--infer", here / "none.npy", "--to", here / "made"]
    assert main([*map(str, words)]) == 2
    assert capsys.readouterr().err.startswith("sdediff: --infer: ")
