"""What a likelihood refuses, and networks that fail."""

import math

import pytest
import torch
from torch import nn

import sdediff as sd
from tests.likelihood.gaussian_data import PLANE, TargetM, ode


@pytest.fixture(scope="module")
def points():
    return TargetM().sample(256, seed=1)


def test_rows_with_nan_are_named():
    x = torch.zeros(5, 2)
    x[2, 1], x[4, 0] = math.nan, math.inf
    with pytest.raises(ValueError, match=r"x is NaN or infinite in row 2 \(2 of 5 rows\)"):
        ode(PLANE.model(sd.VP()), x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integer_data_have_to_be_dequantised(dtype):
    with pytest.raises(TypeError, match=f"x is {dtype}, states are floating-point: dequantise integer data"):
        ode(PLANE.model(sd.VP()), torch.zeros(2, 2).to(dtype))


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(2), {}, r"x has the shape \(2,\): needed are states \(B, ...\)"),
        (torch.zeros(0, 2), {}, r"x has the shape \(0, 2\)"),
        (torch.zeros(2, 0), {}, r"x has the shape \(2, 0\)"),
        (torch.zeros(2, 2), {"t0": 1.0}, "t0=1.0 must lie between 0 and T=1.0"),
        (torch.zeros(2, 2), {"t0": 0.0}, "t0=0.0 must lie between"),
        (torch.zeros(2, 2), {"t0": math.nan}, "t0=nan: give a finite number"),
        (torch.zeros(2, 2), {"rtol": 0.0}, "tolerances must be positive, given rtol=0.0"),
        (torch.zeros(2, 2), {"atol": math.nan}, "atol=nan: give a finite number"),
        (torch.zeros(2, 2), {"trace": "hutchinson"}, "unknown trace 'hutchinson': write one of"),
        (torch.zeros(2, 2), {"probes": 0}, "probes=0: at least 1 is needed"),
        (torch.zeros(2, 2), {"integrator": "dopri6"}, "unknown ODE method 'dopri6': "),
        (torch.zeros(2, 2), {"end": "heet"}, "unknown end of ode 'heet': did you mean 'heat'"),
        (torch.zeros(2, 2), {"prior": "gauss"}, "unknown prior 'gauss'"),
        (torch.zeros(2, 2), {"index": [1, 2, 3]}, "index names 3 samples, the batch has 2"),
        (torch.zeros(2, 2), {"micro_batch": 0}, "micro_batch=0"),
        (torch.zeros(2, 2), {"seed": -1}, r"seed=-1: give an integer in \[0, 2\*\*64\)"),
    ],
)
def test_wrong_arguments_are_refused(x, options, message):
    with pytest.raises(ValueError, match=message):
        ode(PLANE.model(sd.VP()), x, **options)


def test_a_network_with_dropout_in_train_mode_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))

        def forward(self, x, t):
            return self.body(x)

    net = Net().train()
    with pytest.raises(sd.ModelError, match=r"in train mode and body.1 is active there: write net.eval\(\)"):
        ode(sd.ScoreModel(net, sd.VP()), torch.zeros(2, 2))
    found = ode(sd.ScoreModel(net.eval(), sd.VP()), torch.zeros(2, 2))
    assert found.status == ("ok", "ok")
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("integrator", ["dopri5", "RK45", "LSODA"])
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_network_that_fails_on_one_sample_spoils_no_other(integrator, micro_batch):
    base = PLANE.model(sd.VP())

    def net(x, t):
        bad = (x[:, :1] > 50) & (t < 0.5)[:, None]
        return torch.where(bad, math.nan, base.net(x, t))

    x = PLANE.sample(3, seed=1)
    options = {"trace": "exact", "integrator": integrator, "micro_batch": micro_batch}
    alone = ode(base, x, **{**options, "micro_batch": 1})
    x[1, 0] = 60.0
    found = ode(sd.ScoreModel(net, sd.VP(), predicts="score", time="t"), x, **options)
    assert [word == "ok" for word in found.status] == [True, False, True]
    assert found.log_prob[1].isnan()
    torch.testing.assert_close(found.log_prob[[0, 2]], alone.log_prob[[0, 2]], rtol=0, atol=1e-3)


def test_the_scored_batch_is_not_changed(points):
    x = points[:3].clone()
    ode(TargetM().model(sd.VP()), x, end="heat")
    assert torch.equal(x, points[:3])
