"""Data sets and tensors that the network was not trained on are refused in a sentence that says what to write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.datasets import DataError, DataWarning, check_states

MODEL = sd.load("digits-vp")
CARD = MODEL.card["data"]
FAST = {"rtol": 0.1, "atol": 0.1, "probes": 1, "progress": False, "say": lambda text: None}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """The first 60 digits as they are stored: integers 0..16."""
    return np.asarray(sd.data("digits").x[:60])


def test_the_right_data_are_scored(digits: np.ndarray, tmp_path: Path) -> None:
    summary = sd.likelihood_job(
        MODEL, digits[:4].astype(np.uint8), tmp_path / "a", levels=17, range=(0, 16), **FAST
    )  # 1.86 bits/dim on average
    assert 1.0 < summary.bits_per_dim < 3.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        # A file of 0..16 that says nothing of its levels was scored as 256 of them: 6.15 bits/dim for 1.86.
        (lambda x: x.astype(np.uint8), r"256 levels, the model was trained on 17: .*levels=17, range=\(0, 16\)"),
        (lambda x: (x * 15).astype(np.uint8), "give data of 17 levels, or a model of 256"),
        # Raw 0..255 floats gave -1.45 million nats.
        (lambda x: x.astype(np.float32) * 15.9, r"values from 0 to 254.4, the model was trained on data in \[-1, 1\]"),
        (lambda x: x.astype(np.float32) / 16, "from 0 to 1 alone, .* prepared for another range"),
        (lambda x: x.astype(np.float32)[:, 0], r"samples of shape \(8, 8\), the model takes \(1, 8, 8\)"),
        (lambda x: x.astype(np.float32).reshape(60, 64), r"samples of shape \(64,\)"),
    ],
)
def test_other_data_are_refused(make, said: str, digits: np.ndarray, tmp_path: Path) -> None:
    """As an array, as a tensor and as a file alike."""
    x = make(digits)
    np.save(tmp_path / "data.npy", x)
    for data in (x, torch.from_numpy(x), tmp_path / "data.npy"):
        with pytest.raises(DataError, match=said):
            sd.likelihood_job(MODEL, data, tmp_path / "out", **FAST)
    assert not (tmp_path / "out").exists()


def test_the_reverse_range_is_refused() -> None:
    card = {"range": (0.0, 1.0)}
    with pytest.raises(DataError, match=r"data in \[0, 1\]"):
        check_states(torch.linspace(-1, 1, 20).reshape(2, 10), card)
    check_states(torch.linspace(-0.02, 1.04, 20).reshape(2, 10), card)  # a twentieth beyond the ends is kept


def test_few_rows_are_warned_of_and_many_refused() -> None:
    x = torch.rand(60, 1, 8, 8)
    with pytest.warns(DataWarning, match="prepared for another range"):
        check_states(x[:10], CARD)
    with pytest.raises(DataError, match="prepared for another range"):
        check_states(x, CARD)
    check_states(2 * x - 1, CARD)
    check_states(x, None)
