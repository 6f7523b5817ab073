"""What the check says of networks that are right, read wrongly, given other data, or not trained."""

import dataclasses

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.nets import UNet
from sdediff.wiring.judgement import judge
from sdediff.wiring.readings import Estimate, Reading
from tests.wiring.networks import TARGET, data, labelled, network

READINGS = ("x0", "eps", "score", "v", "velocity")
DIGITS = sd.data("digits")
NAMES = sorted(
    name for name in sd.hub.models() if name.startswith("digits-") and name not in ("digits-cond", "digits-classifier")
)


@pytest.mark.parametrize("name", [*NAMES, "digits-cond"])
def test_embedded_networks_are_right(name):
    label = torch.from_numpy(np.array(DIGITS.labels)).flatten().long()
    report = sd.check(sd.load(name), DIGITS, cond={"label": label} if name == "digits-cond" else None)
    assert report.right
    assert report.warning is None
    assert report.gap.value < 0.003
    assert report.verdict.startswith("Trained and wired right")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("predicts", READINGS)
def test_every_wrong_reading_of_an_embedded_network_is_named(name, predicts):
    model = sd.load(name)
    truth = (model.trained and model.predicts) or model.predicts
    if predicts == truth:
        return
    plain = {f.name: f.default for f in dataclasses.fields(model) if f.name == "sigma_data"}
    report = sd.check(dataclasses.replace(model, predicts=predicts, **plain), DIGITS, rows=64)
    assert report.status == "misread"
    if name == "digits-edm":  # its input is preconditioned as well, which is measured anew
        words, _, sigma_data = report.write.rpartition("=")
        assert words == 'predicts="edm", sigma_data'
        assert abs(float(sigma_data) - model.sigma_data) < 0.01
        return
    assert report.write == f'predicts="{truth}"'
    assert f'write predicts="{truth}"' in report.warning
    levels = 8 if name == "digits-ncsn" else 10  # those that the ladder reaches
    assert report.calls == 64 * levels, "from the same evaluations"


@pytest.mark.parametrize("sde", [sd.VP(), sd.SubVP(), sd.VE(), sd.RectifiedFlow(), sd.Cosine()], ids=repr)
@pytest.mark.parametrize("truth", READINGS)
def test_every_wrong_reading_of_an_exact_network_is_named(sde, truth):
    net = network(sde, truth)
    right = sd.check(sd.ScoreModel(net, sde, predicts=truth), data(), rows=64)
    assert right.right
    for predicts in READINGS:
        report = sd.check(sd.ScoreModel(net, sde, predicts=predicts), data(), rows=64)
        assert report.readings[0].gap == pytest.approx(right.gap.value, abs=1e-6)
        if abs(report.gap.value - right.gap.value) < 1e-6:  # on VE eps and velocity/sigma' are one quantity each
            assert report.right
        else:
            assert report.status == "misread"
            assert report.write is not None


@pytest.mark.parametrize("predicts", READINGS)
def test_preconditioning_that_is_missing_is_named(predicts):
    net = network(sd.EDM(), "edm", sigma_data=0.5)
    assert sd.check(sd.ScoreModel(net, sd.EDM(), predicts="edm", sigma_data=0.5, time="t"), data()).right
    report = sd.check(sd.ScoreModel(net, sd.EDM(), predicts=predicts, time="t"), data())
    assert not report.right
    assert report.write == 'predicts="edm", sigma_data=0.5'


def test_preconditioning_that_is_too_much_is_named():
    report = sd.check(
        sd.ScoreModel(network(sd.EDM(), "x0"), sd.EDM(), predicts="edm", sigma_data=0.5, time="t"), data()
    )
    assert report.write == 'predicts="x0"'


@pytest.mark.parametrize("scaled", ["k/16", "2k/16 - 1", "(k + u)/17", "k"])
def test_wrongly_scaled_data_leave_a_gap(scaled):
    k = torch.from_numpy(DIGITS.x).double()
    values = {"k/16": k / 16, "2k/16 - 1": k / 8 - 1, "k": k, "(k + u)/17": DIGITS.dequantised(range=(0, 1))}
    report = sd.check(sd.load("digits-vp"), values[scaled], rows=64)
    assert report.gap.value > 0.1
    assert report.status in ("misread", "nothing")
    assert report.findings


@pytest.mark.parametrize("truth", ["eps", "v", "velocity"])
def test_a_reversed_sign_is_named(truth):
    net = network(sd.VP(), truth)
    report = sd.check(sd.ScoreModel(lambda x, t: -net(x, t), sd.VP(), predicts=truth), data(), rows=64)
    assert report.write == f'predicts="-{truth}"'
    assert sd.check(sd.ScoreModel(net, sd.VP(), predicts=f"-{truth}"), data(), rows=64).write == f'predicts="{truth}"'


CLOCKS = {"1000 t": lambda t: 1000 * t.time, "t/1000": lambda t: t.time / 1000, "1 - t": lambda t: 1 - t.time}


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_wrong_clock_is_not_right(clock):
    assert not sd.check(dataclasses.replace(sd.load("digits-vp"), time=CLOCKS[clock]), DIGITS, rows=64).right


@pytest.mark.parametrize("sde", [sd.VP(beta_max=10), sd.Cosine(), sd.SubVP(), sd.RectifiedFlow()], ids=repr)
def test_a_wrong_process_is_not_right(sde):
    assert not sd.check(dataclasses.replace(sd.load("digits-vp"), sde=sde), DIGITS, rows=64).right


NETWORKS = {
    "zero": lambda x, t: torch.zeros_like(x),
    "constant": lambda x, t: torch.full_like(x, 0.3),
    "identity": lambda x, t: x,
    "blur": lambda x, t: torch.nn.functional.avg_pool2d(x, 3, 1, 1),
}


@pytest.mark.parametrize("predicts", [*READINGS, "edm"])
@pytest.mark.parametrize("name", [*NETWORKS, "random"])
def test_untrained_networks_are_never_right(name, predicts):
    torch.manual_seed(0)
    random = UNet(1, width=8, multiples=[1], blocks=1, attention=0).eval()
    net = NETWORKS.get(name, random)
    for sde in (sd.VP(), sd.EDM()):
        report = sd.check(sd.ScoreModel(net, sde, predicts=predicts, time="t"), DIGITS, rows=100)
        assert report.status in ("misread", "nothing"), report.verdict
        assert not report.right


def test_gaussian_data_show_no_more_than_they_can():
    gaussian = sd.target("gaussian")
    report = sd.check(gaussian.model(sd.VP()), gaussian.sample(1000))
    assert (report.status, report.right, report.warning) == ("gaussian", False, None)
    broken = sd.ScoreModel(gaussian.model(sd.VP()).net, sd.VP(), predicts="eps")
    assert sd.check(broken, gaussian.sample(1000)).warning


@pytest.mark.parametrize("name", ["ring", "target_m", "moons", "gmm768"])
def test_exact_networks_are_right_in_few_and_many_dimensions(name):
    target = sd.target(name)
    for sde in (sd.VP(), sd.EDM(), sd.RectifiedFlow()):
        assert sd.check(target.model(sde), target.sample(1000)).right


def test_a_network_with_labels_is_right_with_those_of_its_rows():
    sde, net, x, labels = labelled()
    model = sd.ScoreModel(net, sde)
    assert sd.check(model, x, cond={"label": labels}).right
    assert not sd.check(model, x, cond={"label": labels.roll(1)}).right
    assert not sd.check(model, x, cond={"label": torch.zeros(900, dtype=torch.long)}).right


def test_the_check_is_repeatable_and_leaves_its_arguments_alone():
    x, model = data().clone(), TARGET.model(sd.VP())
    first, again = (dataclasses.replace(sd.check(model, x), seconds=0.0) for _ in range(2))
    assert first == again
    assert torch.equal(x, data())
    assert sd.check(model, x, seed=1).gap != first.gap


def test_a_network_that_is_its_own_best_reading_without_gain_may_be_trained_too_little():
    figures = Estimate(-0.037, 0.007), Estimate(0.005, 0.001)
    judgement = judge("eps", *figures, 0.08, 128, Reading("eps", 0.005, -0.037), None)
    assert judgement.status == "misread"
    assert "read wrongly" not in judgement.verdict
    assert "or it is trained too little: sd.infer" in judgement.verdict
