"""Networks whose wiring is inferred: the right one is in the winning group, and the check has the last word."""

import dataclasses

import pytest
import torch

import sdediff as sd
from sdediff.wiring.candidates import candidates, written
from sdediff.wiring.ranges import ranges_of
from tests.wiring.networks import TARGET, data, labelled, network

TABLE = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))


def _alike(found, sde, time, predicts, sigma_data=None):
    """Whether a wiring stands in the winning group."""
    return any(
        (t.wiring.sde, t.wiring.time, t.wiring.predicts, t.wiring.sigma_data) == (sde, time, predicts, sigma_data)
        for t in found.group
    )


def _clocked(net, undo):
    """The network on a clock of its own, given the time that a reading stands for."""
    return lambda x, clock: net(x, undo(clock.double()))


CASES = {
    "vp eps t": (sd.VP(), "t", "eps", lambda c: c),
    "vp v 1000 t": (sd.VP(), sd.Clock("t", 1000), "v", lambda c: c / 1000),
    "subvp score 999 t": (sd.SubVP(), sd.Clock("t", 999), "score", lambda c: c / 999),
    "flow velocity 1 - t": (sd.RectifiedFlow(), sd.Clock("t", -1, 1), "velocity", lambda c: 1 - c),
    "flow -velocity 1 - t": (sd.RectifiedFlow(), sd.Clock("t", -1, 1), "-velocity", lambda c: 1 - c),
    "cosine v t": (sd.Cosine(), "t", "v", lambda c: c),
    "ve -eps log(sigma/2)": (sd.EDM(), sd.Clock("c_noise", 4, -0.6931471805599453), "-eps", lambda c: 2 * c.exp()),
    "edm c_noise": (sd.EDM(), "c_noise", "edm", lambda c: (4 * c).exp()),
    "ve 25 score t": (sd.VE.exponential(25.0), "t", "score", lambda c: c),
    "table eps index": (TABLE, "index", "eps", lambda c: c + 1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_right_wiring_is_in_the_winning_group(name):
    sde, time, predicts, undo = CASES[name]
    sigma_data = 0.5 if predicts == "edm" else None
    plain = network(sde, predicts.lstrip("-"), sigma_data or 0.5)
    net = (lambda x, t: -plain(x, t)) if predicts.startswith("-") else plain
    found = sd.infer(_clocked(net, undo), data())
    assert found.right, found.verdict
    assert _alike(found, sde, time, predicts, sigma_data)
    assert sd.check(found.model, data()).right
    assert found.group[0].score < -0.3


def test_what_the_model_keeps_is_in_its_line():
    plain = network(sd.VP(), "eps")
    model = sd.ScoreModel(lambda x, t: {"out": plain(x, t), "clock": t}, sd.VP(), output="out", shared=("label",))
    found = sd.infer(model, data(100))
    assert found.right
    assert found.python.endswith(", output='out', shared=('label',))")
    again = eval(found.python, {"sd": sd, "net": model.net, "torch": torch})
    x = data(3).float()
    t = 0.4 * found.model.sde.T
    assert torch.equal(again(x, t).x0, found.model(x, t).x0)


@pytest.mark.slow
def test_a_plain_network_of_images_is_recognised_by_another_range():
    net, digits = sd.load("digits-vp").net, sd.data("digits")
    found = sd.infer(net, digits.dequantised(range=(0, 1))[:300])
    assert found.right
    assert found.clear
    assert found.model.card["data"]["range"] == [-1.0, 1.0]
    assert _alike(found, sd.VP(), "t", "eps")
    assert found.model.net is net
    assert repr(eval(found.python, {"sd": sd, "net": net, "torch": torch})) == repr(found.model)


def test_a_network_that_looks_its_clock_up_is_given_integers():
    exact, rows = network(TABLE, "eps"), torch.nn.Embedding.from_pretrained(torch.arange(1000.0)[:, None])

    def net(x, clock):
        return exact(x, rows(clock)[:, 0].double() + 1)

    found = sd.infer(net, data())
    assert found.right, found.verdict
    assert _alike(found, TABLE, sd.Clock("index", whole=True), "eps")


def test_labels_are_needed_and_used():
    sde, net, x, labels = labelled()
    found = sd.infer(net, x, cond={"label": labels})
    assert found.right
    assert _alike(found, sde, "t", "eps")


@pytest.mark.parametrize("name", ["another schedule", "another clock", "untrained", "zero"])
def test_without_the_truth_on_the_list_the_check_refuses_the_best(name):
    odd = sd.VP(beta_max=80)
    nets = {
        "another schedule": network(odd, "eps"),
        "another clock": _clocked(network(sd.VP(), "eps"), lambda c: c**3),
        "untrained": lambda x, t: torch.tanh(x.roll(1, -1)),
        "zero": lambda x, t: torch.zeros_like(x),
    }
    found = sd.infer(nets[name], data())
    assert not found.right
    assert found.verdict.startswith("None of the usual wirings is right")
    if name == "another schedule":
        mended = sd.infer(nets[name], data(), processes=[odd])
        assert mended.right
        assert _alike(mended, odd, "t", "eps")


def test_the_answer_is_shown_and_is_plain(tmp_path):
    import json

    found = sd.infer(network(sd.VP(), "v"), data())
    assert found.python in str(found).replace("\n", "")
    assert "VP()" in found._repr_html_()
    values = json.loads(json.dumps(found.to_dict()))
    assert values["right"] is True
    assert values["trials"][0]["alike"] is True


def test_lines_and_names_of_the_list_are_right():
    values = ranges_of(torch.rand(100) * 2 - 1, None, 0.5)
    found = candidates(values, 0.5, 0.5)
    assert len(found) > 450
    for line in {w.process: w for w in found}.values():
        assert eval(line.process, {"sd": sd, "torch": torch}) == line.sde
    assert written(sd.Clock("t", -1000, 1000)) == "1000 - 1000 t"
    assert written(sd.Clock("index", 1 / 999)) == "index/999"
    assert written(sd.Clock("c_noise", 4, -0.5)) == "4 c_noise - 0.5"


def _raises(x, t):
    raise RuntimeError("never")


@pytest.mark.parametrize(
    ("net", "rows", "words"),
    [
        (3, data(), "callable"),
        (torch.nn.Identity, data(), "callable"),
        (_raises, data(), "RuntimeError: never"),
        (lambda x, t: x, data()[:30], "too few"),
    ],
)
def test_what_cannot_be_inferred_is_refused(net, rows, words):
    with pytest.raises(sd.Error, match=words):
        sd.infer(net, rows)


def test_a_model_is_taken_by_its_network():
    model = dataclasses.replace(TARGET.model(sd.VP()), predicts="x0")
    assert sd.infer(model, data()).model.predicts == "v"


def test_a_measured_sigma_data_is_found():
    model = sd.load("digits-edm")
    found = sd.infer(model.net, sd.data("digits"), progress=False)
    assert found.right
    assert abs(found.model.sigma_data - model.sigma_data) < 0.01
