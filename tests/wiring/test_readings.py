"""Errors from moments, against those of the predictions themselves and of ordinary least squares."""

import math

import pytest
import torch
from torch import Tensor

import sdediff as sd
from sdediff.wiring.moments import SCALES, measure
from sdediff.wiring.readings import References, errors_of, gain_of, gap_of
from sdediff.wiring.rows import rows_of
from tests.wiring.networks import data


class Recorded:
    """A network that keeps what it was given and gave."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        output = torch.sin(3 * x) - 0.2 * x.mean(dim=(1, 2, 3), keepdim=True)
        self.seen.append((x.clone(), output))
        return output


@pytest.fixture(scope="module")
def measured():
    """A model, its recorded network, rows and moments of one batch a level, in float64."""
    net = Recorded()
    model = sd.ScoreModel(net, sd.VP(), predicts="v")
    rows = rows_of(model, data(), 128, 0)
    return model, net, rows, measure(model, rows, {}, 0, torch.float64, None)


def test_levels_are_those_asked_for(measured):
    _, net, rows, moments = measured
    assert [level.kappa for level in moments.levels] == pytest.approx([s * rows.std for s in SCALES])
    assert len(net.seen) == 10
    assert moments.calls == 1280


@pytest.mark.parametrize("predicts", ["x0", "eps", "score", "v", "velocity"])
def test_errors_are_those_of_the_prediction(measured, predicts):
    _, net, rows, moments = measured
    errors = errors_of(measured[0], moments, predicts, 1.0)
    for at, level in enumerate(moments.levels):
        x, output = net.seen[at]
        x0 = sd.ScoreModel(lambda *_, output=output: output, sd.VP(), predicts=predicts)(x, level.time).x0
        torch.testing.assert_close(errors[at], ((x0 - rows.x) ** 2).sum((1, 2, 3)), rtol=1e-7, atol=1e-9)


def test_the_best_reading_is_the_least_squares_fit(measured):
    _, net, rows, moments = measured
    references, gains = References.of(moments), []
    for at in range(10):
        x, output = net.seen[at]
        columns = torch.stack([x.flatten(), output.flatten(), torch.ones_like(x).flatten()], 1)
        for width, found in ((columns, references.free[at].sum() / (1 + 3 / (128 * 64))), (columns[:, [0, 2]], None)):
            fit = torch.linalg.lstsq(width, rows.x.flatten()[:, None]).solution
            error = ((width @ fit)[:, 0] - rows.x.flatten()).square().sum()
            if found is not None:
                assert found.item() == pytest.approx(error.item(), rel=1e-9)
            else:
                least = min(error.item(), moments.gaussian[at].sum().item())
                assert references.gaussian[at].sum().item() == pytest.approx(least, rel=1e-9)
                gains.append(least)
    errors = errors_of(measured[0], moments, "v", 1.0)
    expected = sum(math.log(e.sum().item() / g) for e, g in zip(errors, gains, strict=True)) / 10
    assert gain_of(errors, references, moments.row).value == pytest.approx(expected)


def test_the_standard_error_is_that_of_many_samples(measured):
    """The gap's error against the spread of the gap over 30 disjoint sets of rows, within 4 of its own errors."""
    net = sd.target("gmm64").model(sd.VP()).net
    model = sd.ScoreModel(lambda x, t: 0.9 * net(x, t), sd.VP(), predicts="v")
    every, found = data(30 * 128), []
    for k in range(30):
        rows = rows_of(model, every[k::30], 128, 0)
        moments = measure(model, rows, {}, k, None, None)
        references = References.of(moments)
        found.append(gap_of(errors_of(model, moments, "v", 1.0), references, moments.row))
    spread = torch.tensor([f.value for f in found]).std().item()
    told = torch.tensor([f.error for f in found]).mean().item()
    assert abs(told / spread - 1) < 4 / math.sqrt(2 * 29)
