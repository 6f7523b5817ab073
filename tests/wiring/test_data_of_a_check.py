"""Data of a check: their range, levels and number, the process's ends, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.datasets import DataSet
from tests.wiring.networks import TARGET, data

DIGITS = sd.data("digits")


def test_levels_are_compared_with_the_card():
    model = sd.load("digits-vp")
    eight_bits = DataSet((DIGITS.x * 15.9).astype(np.uint8), levels=256)
    assert any("256 levels" in f and "trained on 17" in f for f in sd.check(model, eight_bits, rows=50).findings)
    for scaled in (DIGITS.x / 8 - 1, DataSet(DIGITS.x / 8 - 1)):
        findings = sd.check(model, scaled, rows=50).findings
        assert any("17 distinct numbers" in finding and "dequantised" in finding for finding in findings)
    assert not sd.check(model, DIGITS.tensor(), rows=50).findings
    assert not sd.check(model, DIGITS.dequantised(), rows=50).findings
    assert sd.check(model, "digits:test", rows=50).gap == sd.check(model, DIGITS, rows=50).gap


def test_few_rows_are_compared_by_range_and_ends_alone():
    def net(x, t):
        raise AssertionError("evaluated")

    model = sd.ScoreModel(net, sd.VP(), card={"data": {"range": [-1, 1]}})
    report = sd.check(model, 400 * torch.rand(49, 3))
    assert (report.status, report.calls, report.rows) == ("unmeasured", 0, 49)
    assert any("trained on data in [-1, 1] by its card" in finding for finding in report.findings)
    assert any("noise does not hide the data" in finding for finding in report.findings)
    assert report.warning
    assert sd.check(model, 2 * torch.rand(49, 3) - 1).warning is None


def test_fifty_rows_are_judged_by_the_gap():
    report = sd.check(TARGET.model(sd.VP()), data()[:50])
    assert report.status == "right"
    assert "on 50 rows" in report.verdict
    assert "gain" not in report.verdict


def test_without_data_the_ends_are_compared_with_statistics_or_card():
    narrow = sd.VE(sigma_min=0.01, sigma_max=1.0)
    net = sd.load("digits-ve").net
    for model in (
        sd.ScoreModel(net, narrow, predicts="score", stats=sd.load("digits-ve").stats),
        sd.ScoreModel(net, narrow, predicts="score", card={"data": {"range": [-1, 1]}}),
    ):
        report = sd.check(model)
        assert report.status == "unmeasured"
        assert "where sampling begins" in report.findings[0]
    assert sd.check(sd.load("digits-ve")).findings == ()
    late = dataclasses.replace(sd.load("digits-ve"), sde=sd.VE(sigma_min=0.4, sigma_max=50))
    assert "where sampling ends" in sd.check(late).findings[0]
    assert "nothing to compare" in sd.check(sd.ScoreModel(net, sd.VE(), predicts="score")).verdict


def test_a_range_says_what_the_card_does_not():
    net = sd.load("digits-vp").net
    model = sd.ScoreModel(net, sd.VP())
    unit = DIGITS.dequantised(range=(0, 1))
    assert any("[-1, 1]" in finding for finding in sd.check(model, unit, model_range=(-1, 1), rows=50).findings)
    assert sd.check(model, DIGITS, model_range=(-1, 1), rows=64).right
    assert not sd.check(model, DIGITS, model_range=(0, 1), rows=50).right
    with pytest.raises(sd.ModelError, match=r"\[-1, 1\] by its card"):
        sd.check(sd.load("digits-vp"), DIGITS, model_range=(0, 1))


def test_paths_and_bytes_are_read(tmp_path):
    np.save(tmp_path / "digits.npy", DIGITS.x)
    model = sd.load("digits-vp")
    with pytest.raises(sd.Error, match="by its card the model takes"):
        sd.check(model, np.zeros((60, 9, 9), np.uint8))
    report = sd.check(model, tmp_path / "digits.npy", rows=50)  # bytes without a range have 256 levels
    assert any("256 levels" in finding for finding in report.findings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: (m, torch.full((60, 1, 8, 8), float("nan"))), "NaN"),
        (lambda m: (m, torch.zeros(60, dtype=torch.float32)), "samples"),
        (lambda m: (m, torch.zeros(60, 1, 8, 8, dtype=torch.int64)), "levels"),
        (lambda m: (m, "nowhere.npy"), "nowhere.npy"),
        (lambda m: (m.net, DIGITS), "ScoreModel"),
        (lambda m: (dataclasses.replace(m, net=lambda x, t: x / 0), DIGITS), "not finite"),
        (lambda m: (dataclasses.replace(m, net=lambda x, t: x[:1]), DIGITS), "shape"),
    ],
)
def test_what_cannot_be_checked_is_refused(make, words):
    with pytest.raises(sd.Error, match=words):
        sd.check(*make(sd.load("digits-vp")))


def test_equal_rows_are_not_measured():
    assert "equal" in sd.check(sd.ScoreModel(lambda x, t: x, sd.VP()), torch.ones(100, 3)).verdict


def test_a_training_network_is_refused():
    net = torch.nn.Sequential(torch.nn.Dropout(0.5)).train()
    with pytest.raises(sd.Error, match="eval"):
        sd.check(sd.ScoreModel(lambda x, t: net(x), sd.VP()), data())
