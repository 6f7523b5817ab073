"""What holds for every bound: independence of the batch, networks that fail, wrong arguments."""

import pytest
import torch
from torch import nn

import sdediff as sd

F64 = torch.float64


@pytest.fixture(scope="module")
def m():
    return sd.target("target_m")


@pytest.fixture(scope="module")
def points(m):
    return m.sample(4096, seed=3, dtype=F64)


@pytest.mark.parametrize("method", ["vlb", "continuous_vlb"])
def test_a_sample_is_itself_in_any_batch(m, points, method):
    options = {"method": method, "steps": 12, "seed": 3}
    model = m.model(sd.VP())
    whole = sd.log_likelihood(model, points[:6], index=[4, 8, 15, 16, 23, 42], **options)
    alone = sd.log_likelihood(model, points[3:4], index=16, **options)
    parts = sd.log_likelihood(model, points[:6], index=[4, 8, 15, 16, 23, 42], micro_batch=4, **options)
    for name in ("log_prob", "std_error", "latent"):
        torch.testing.assert_close(getattr(alone, name)[0], getattr(whole, name)[3], rtol=0, atol=1e-9)
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["vlb", "continuous_vlb"])
def test_a_network_that_fails_for_one_sample(m, points, method):
    class Sick(nn.Module):
        def forward(self, x, t):
            return torch.where(x.abs().amax(1, keepdim=True) > 50, torch.nan, -x)

    x = points[:3].clone()
    x[1] = 1000.0
    with pytest.warns(sd.DataWarning, match=r"rms 577.4, of which 3.794 is left at t_max"):
        found = sd.log_likelihood(sd.ScoreModel(Sick(), sd.VP(), predicts="score"), x, method=method, steps=8)
    assert [w == "ok" for w in found.status] == [True, False, True]
    assert "the network is not finite at t=" in found.status[1]
    assert torch.isfinite(found.log_prob).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "vlb", "rtol": 1e-3}, "rtol=0.001 does not belong to method='vlb': it is for 'two_pass' or 'ode'"),
        ({"steps": 8}, "steps=8 does not belong to method='two_pass': it is for 'vlb' or 'continuous_vlb'"),
        ({"method": "vlb", "end": "heat"}, "unknown end of vlb 'heat': .*data"),
        ({"method": "vlb", "noises": 0}, "noises=0: at least 1 is needed"),
        ({"method": "vlb", "variance": "medium"}, "unknown variance 'medium'"),
        ({"method": "vlb", "prior": lambda z: z[:, 0], "steps": 4}, "a bound takes its prior by name"),
        ({"discrete": sd.Discrete(4)}, 'gives a density: write end="noised"'),
    ],
)
def test_wrong_arguments_are_refused(m, points, options, message):
    with pytest.raises(ValueError, match=message):
        sd.log_likelihood(m.model(sd.VP()), points[:2], **options)


def test_a_network_without_a_variance_is_told_so(m, points):
    with pytest.raises(ValueError, match="variance='learned_range' needs a network that returns 2C channels"):
        sd.log_likelihood(m.model(sd.VP()), points[:2], method="vlb", steps=4, variance="learned_range")


def test_bits_per_dim_of_a_density_need_the_map(m, points):
    found = sd.log_likelihood(m.model(sd.VP()), points[:2], method="vlb", steps=4)
    with pytest.raises(ValueError, match="needs levels= and range="):
        sd.bits_per_dim(found)
