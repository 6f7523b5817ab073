"""What a model refuses, and where x0 is not determined."""

import re

import pytest
import torch
from torch import nn

import sdediff as sd

F64 = torch.float64
SAYS = ("x0", "eps", "score", "v", "velocity")


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda x, t: x[:, :2], r"the network returned shape \(2, 2\) for states \(2, 3\)"),
        (lambda x, t: x[:1], r"the network returned shape \(1, 3\) for states \(2, 3\)"),
        (lambda x, t: x.sum(), r"the network returned shape \(\) for states \(2, 3\)"),
        (lambda x, t: torch.cat([x, x]), r"the network returned shape \(4, 3\)"),
        (lambda x, t: x.double(), "the network returned torch.float64 for torch.float32 states: cast one of them"),
        (lambda x, t: x.numpy(), r"the network returned ndarray, needed: a tensor of shape \(2, 3\)"),
        (lambda x, t: None, "the network returned NoneType, needed: a tensor"),
        (lambda x, t: (1.0, x), "the network returned float, needed: a tensor"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(net, message):
    with pytest.raises(sd.ModelError, match=message):
        sd.ScoreModel(net, sd.VP())(torch.ones(2, 3), 0.5)


def test_a_narrower_output_is_cast_to_the_states():
    said = sd.ScoreModel(lambda x, t: x.half(), sd.VP())(torch.ones(2, 3), 0.5)
    assert said.raw.dtype == torch.float32


@pytest.mark.parametrize("predicts", ["eps", "score"])
@pytest.mark.parametrize("batch", [False, True], ids=["float", "tensor"])
def test_at_alpha_zero_eps_and_score_do_not_determine_x0(predicts, batch):
    sde, x = sd.RectifiedFlow(), torch.ones(2, 3, dtype=F64)
    said = sd.ScoreModel(lambda x, t: 2 * x, sde, predicts=predicts)(x, torch.ones(2, dtype=F64) if batch else 1.0)
    assert torch.equal(getattr(said, predicts), 2 * x)
    for name in {"x0", "velocity"}:
        refusal = rf"alpha is 0 and the network's output \({predicts}\) does not determine {name}: start below"
        with pytest.raises(sd.SDEError, match=rf"at t=.*1.* {refusal}"):
            getattr(said, name)


@pytest.mark.parametrize("predicts", ["x0", "v", "edm", "velocity"])
@pytest.mark.parametrize("batch", [False, True], ids=["float", "tensor"])
def test_at_alpha_zero_the_others_do(predicts, batch, normals):
    # There x is the noise: eps = x, and on the straight path velocity = eps - x0.
    sde, x, x0 = sd.RectifiedFlow(), normals(2, 3), normals(2, 3, seed=1)
    raw = {"x0": x0, "v": -x0, "edm": x0 / 1.0, "velocity": x - x0}[predicts]
    model = sd.ScoreModel(lambda x, t: raw, sde, predicts=predicts, time="t")
    said = model(x, torch.ones(2, dtype=F64) if batch else 1.0)
    for name, expected in (("x0", x0), ("eps", x), ("score", -x), ("v", -x0), ("velocity", x - x0)):
        torch.testing.assert_close(getattr(said, name), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("time", ["lam", "log_snr", "sigma", "c_noise"])
def test_a_clock_that_is_infinite_at_alpha_zero_is_refused(time):
    model = sd.ScoreModel(lambda x, t: x, sd.RectifiedFlow(), predicts="v", time=time)
    with pytest.raises(sd.ModelError, match=rf"the clock '{time}' reads -?inf at t=1.0: start below it"):
        model(torch.ones(1, 2), 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predicts": "epsilon"}, "unknown parametrisation 'epsilon': that is 'eps' here"),
        ({"time": "sigmas"}, "unknown clock 'sigmas': did you mean 'sigma'"),
        ({"time": "index"}, 'time="index" needs a Table, given VP: use time="t"'),
    ],
)
def test_unknown_words_are_answered_with_the_nearest(options, message):
    with pytest.raises(sd.ModelError, match=message):
        sd.ScoreModel(lambda x, t: x, sd.VP(), **options)


def test_a_network_in_train_mode_is_refused_where_that_matters():
    class Net(nn.Module):
        def __init__(self, *parts):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 3), *parts)

        def forward(self, x, t):
            return self.body(x)

    active = sd.ScoreModel(Net(nn.Dropout(0.5)).train(), sd.VP())
    for run in (
        lambda: sd.sample(active, (2, 3), steps=2),
        lambda: sd.encode(active, torch.ones(2, 3)),
        lambda: next(sd.iterate(active, (2, 3), steps=2)),
    ):
        with pytest.raises(sd.ModelError, match=r"in train mode and body.1 is active there: write net.eval\(\)"):
            run()
    active.net.eval()
    assert sd.sample(active, (2, 3), steps=2).shape == (2, 3)
    assert sd.sample(sd.ScoreModel(Net(nn.SiLU()).train(), sd.VP()), (2, 3), steps=2).shape == (2, 3)


def test_states_are_not_changed_by_a_model(normals):
    x = normals(2, 3)
    before = x.clone()
    said = sd.ScoreModel(lambda x, t: torch.tanh(x), sd.VP(), predicts="v")(x, 0.5)
    raw = said.raw.clone()
    for name in SAYS:
        getattr(said, name)
    said.mix(1.0, x0=2.0)
    assert torch.equal(x, before)
    assert torch.equal(said.raw, raw)


@pytest.mark.parametrize("predicts", ["x0", "eps", "score", "v", "velocity", "edm"])
@pytest.mark.parametrize("process", [sd.VP(), sd.RectifiedFlow(), sd.EDM()], ids=repr)
def test_times_where_sigma_is_zero_are_one_rule_for_a_float_and_a_row(process, predicts):
    """At t = 0 a network determines x0 = x / alpha or what it predicts; a row of times gave NaN for the rest."""
    model, x = sd.ScoreModel(lambda x, t: 0.1 * x, process, predicts=predicts, time="t"), torch.ones(2, 3)
    answers = []
    for t in (0.0, torch.zeros(2, dtype=torch.float64), torch.tensor([0.5, 0.0], dtype=torch.float64)):
        prediction, row = model(x, t), []
        for name in ("x0", "eps", "score", "v", "velocity"):
            try:
                row.append(getattr(prediction, name)[1])
            except sd.SDEError as error:
                row.append(re.sub("t=.*? sigma", "t=0 sigma", str(error)))
        answers.append(row)
    for values in zip(*answers, strict=True):
        one = values[0]
        if isinstance(one, torch.Tensor):
            assert one.isfinite().all()
            assert all(torch.equal(v, one) for v in values)
        else:
            assert one.startswith("at t=0 sigma is 0, the output does not determine")
            assert values == (one,) * 3


def test_a_clock_that_is_infinite_for_one_of_a_row_is_refused():
    model = sd.ScoreModel(lambda x, t: x, sd.VP(), time="lam")
    for t in (0.0, torch.tensor([0.5, 0.0], dtype=torch.float64)):
        with pytest.raises(sd.ModelError, match=r"the clock 'lam' reads inf at t=0.0: end above it, at t_min"):
            model(torch.ones(2, 3), t)
