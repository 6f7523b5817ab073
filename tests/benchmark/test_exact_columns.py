"""What a sweep knows without noise: the bias on Gaussian data, and beside it the likelihoods of its networks."""

import io
import json
import math

import pytest
import torch
from rich.console import Console

import sdediff as sd
from sdediff.analysis import analyse, spectrum
from sdediff.benchmark import Report
from sdediff.benchmark.densities import read_likelihoods
from sdediff.likelihood import bits_per_dim, log_likelihood


def test_the_bias_is_that_of_the_analysis_and_has_no_noise(report):
    target = sd.target("target_m")
    values = spectrum(target.sample(4000), 64)
    found = {(row.solver, row.budget): row.quality.get("gaussian") for row in report.rows}
    for name in ("ddim", "ancestral"):
        expected = analyse(name, sd.VP(), spectrum=values, calls=12).w2 / math.sqrt(2)
        assert found[name, 12].value == pytest.approx(expected, rel=1e-9)
        assert found[name, 12].std_error is None
    assert found["ode", None] is None
    assert found["real data", None] is None


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "out"
    options = {"solvers": ["ddim"], "calls": (2,), "seeds": 1, "samples": 20, "distances": ["energy"], "check": False}
    return folder, sd.bench(["digits-vp"], out=folder, likelihoods=3, progress=False, **options)


def test_a_network_s_bits_are_those_of_its_likelihood(digits):
    folder, report = digits
    model = sd.load("digits-vp")
    rows = sd.hub.data("digits", "test").dequantised(range=(-1.0, 1.0))[:3]
    bits = bits_per_dim(log_likelihood(model, rows, rtol=1e-2, atol=1e-2, probes=4), levels=17, range=(-1.0, 1.0))
    entry = report.likelihoods["digits-vp"]
    assert (entry["unit"], entry["rows"]) == ("bits/dim", 3)
    assert entry["value"] == pytest.approx(bits.mean().item(), rel=1e-6)
    assert entry["std_error"] == pytest.approx(bits.std().item() / math.sqrt(3), rel=1e-6)
    out = io.StringIO()
    Console(file=out, width=110).print(report.table())
    [real] = [line for line in out.getvalue().splitlines() if "real data" in line]
    assert f"{entry['value']:.1f}" in real
    assert "bits/dim: of digits-vp on 3 rows" in out.getvalue()
    assert Report.load(folder).likelihoods == report.likelihoods


def test_damaged_likelihoods_are_left_out(tmp_path):
    path = tmp_path / "likelihoods.json"
    for content in ("{", json.dumps([1]), json.dumps({"a": {"value": "x"}})):
        path.write_text(content)
        assert read_likelihoods(tmp_path) == {}


def test_targets_and_continuous_data(tmp_path):
    torch.manual_seed(0)
    rows = torch.randn(80, 2)
    model = sd.target("gaussian").model(sd.VP())
    plain = sd.ScoreModel(lambda x, t: model.net(x, t), sd.VP(), predicts="v")
    options = {"solvers": ["ddim"], "calls": (3,), "seeds": 1, "samples": 20, "distances": ["energy"], "check": False}
    report = sd.bench({"plain": plain}, data=rows, likelihoods=8, targets=["gaussian"], progress=False, **options)
    assert set(report.likelihoods) == {"plain"}
    entry = report.likelihoods["plain"]
    exact = -sd.target("gaussian").log_prob(rows[::2][:8]).mean().item() / 2
    assert entry["unit"] == "nats/dim"
    assert entry["value"] == pytest.approx(exact, abs=0.02)
