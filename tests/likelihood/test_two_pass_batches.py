"""Likelihoods in two passes: batches, failures and refusals."""

import dataclasses
import math

import pytest
import torch
from torch import nn

import sdediff as sd
from tests.likelihood.two_pass_helpers import stats_of, with_stats

F64 = torch.float64


@pytest.fixture(scope="module")
def m():
    return sd.target("target_m")


@pytest.fixture(scope="module")
def points(m):
    return m.sample(256, seed=1, dtype=F64)


# --- batches ------------------------------------------------------------------------------------------------------


def test_a11_a_sample_does_not_know_its_batch(points):
    m, sde = sd.target("target_m"), sd.VP()
    model, x = with_stats(m, sde), points[:64]
    whole = sd.log_likelihood(model, x, micro_batch=64, seed=2)
    for size, count in ((1, 5), (7, 21)):
        part = sd.log_likelihood(model, x[:count], micro_batch=size, seed=2)
        torch.testing.assert_close(part.log_prob, whole.log_prob[:count], rtol=0, atol=1e-9)
        torch.testing.assert_close(part.std_error, whole.std_error[:count], rtol=0, atol=1e-9)
        assert torch.equal(part.steps, whole.steps[:count])
    order = [9, 3, 5]
    some = sd.log_likelihood(model, x[order], seed=2, index=order)
    torch.testing.assert_close(some.log_prob, whole.log_prob[order], rtol=0, atol=1e-9)


class Net(nn.Module):
    """A network of matrix products in float32, whose last bits do depend on the batch."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(9, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 8))
        self.bad = None

    def forward(self, x, t):
        out = self.body(torch.cat([x, t[:, None]], 1))
        if self.bad is None:
            return out
        return torch.where((x[:, :1] > self.bad) & (t > 0.3)[:, None], math.nan, out)


@pytest.mark.parametrize("autograd", [True, False])
def test_frozen_a_sample_ignores_its_mates_to_the_bit(autograd):
    net = Net().eval()
    model = sd.ScoreModel(net, sd.VP(), predicts="eps", time="t")
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(3))
    options = {"micro_batch": 6, "frozen": True, "seed": 4, "probes": 2, "autograd": autograd}
    whole = sd.log_likelihood(model, x, **options)
    # A sample keeps its slot; what the others hold, or whether they fail, does not reach it.
    other = x.clone()
    other[1:5] = 3 * x[1:5].flip(0)
    poisoned = x.clone()
    poisoned[2, 0] = 50.0
    for mates, bad in ((other, None), (poisoned, 20.0)):
        net.bad = bad
        found = sd.log_likelihood(model, mates, **options)
        for name in ("log_prob", "std_error", "latent", "calls", "solver_error"):
            assert torch.equal(getattr(found, name)[[0, 5]], getattr(whole, name)[[0, 5]])
    assert [word == "ok" for word in found.status] == [True, True, False, True, True, True]
    # A tail is padded: the first two alone, in a micro-batch of six.
    net.bad = None
    tail = sd.log_likelihood(model, x[:2], **options)
    assert torch.equal(tail.log_prob, whole.log_prob[:2])


def test_a_stiff_sample_costs_its_own_steps_alone():
    # One sample of a needle among 63 of round data. A shared step would cost every one of them as much.
    class Needle(nn.Module):
        def forward(self, x, t):
            alpha, sigma = (v[:, None] for v in sd.VP().marginal(t))
            narrow = torch.where(x[:, :1].abs() > 30, 1e-5, 1.0)
            return sigma * (x - narrow * 0) / (alpha**2 * narrow + sigma**2)

    model = sd.ScoreModel(Needle(), sd.VP(), predicts="eps", time="t")
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(5), dtype=F64)
    options = {"trace": "exact", "rtol": 1e-5, "atol": 1e-5, "dtype": F64}
    without = sd.log_likelihood(model, x[:63], **options)
    x[63] = torch.tensor([100.0, 0.3])
    found = sd.log_likelihood(model, x, **options)
    assert found.steps[63] > 2 * found.steps[:63].double().mean()
    assert torch.equal(found.calls[:63], without.calls)
    torch.testing.assert_close(found.log_prob[:63], without.log_prob, rtol=0, atol=1e-9)


# --- failures and refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_network_that_fails_on_one_sample_is_told_with_its_time(m, points, micro_batch):
    model, x = m.model(sd.VP()), points[:3].clone()
    alone = sd.log_likelihood(model, x, micro_batch=micro_batch)
    x[1, 0] = 60.0

    def poisoned(net):
        return lambda x, t: torch.where((x[:, :1] > 20) & (t > 0.2)[:, None], math.nan, net(x, t))

    found = sd.log_likelihood(model.map_net(poisoned), x, micro_batch=micro_batch)
    assert (found.status[0], found.status[2]) == ("ok", "ok")
    word = found.status[1]
    assert word.startswith("the network is not finite at t=0.2")
    assert found.log_prob[1].isnan()
    assert found.latent[1].isnan().all()
    torch.testing.assert_close(found.log_prob[[0, 2]], alone.log_prob[[0, 2]], rtol=0, atol=1e-9)


def test_a_sample_that_needs_too_many_steps_is_told(m, points):
    found = sd.log_likelihood(m.model(sd.VP()), points[:4], rtol=1e-8, atol=1e-8, max_steps=5)
    assert found.status == ("step limit",) * 4
    assert found.log_prob.isnan().all()


def test_conditions_with_a_row_a_sample_go_with_their_sample():
    base = sd.target("target_m").model(sd.VP())

    def net(x, t, shift, scale=1.0):
        return base.net(x - scale * shift, t)

    model = sd.ScoreModel(net, sd.VP(), predicts="v", time="t")
    x = sd.target("target_m").sample(5, seed=1, dtype=F64)
    shift = torch.linspace(0, 1, 5, dtype=F64)[:, None]
    found = sd.log_likelihood(model, x, cond={"shift": shift, "scale": 2.0}, micro_batch=3, trace="exact")
    for i in (0, 4):
        alone = sd.log_likelihood(model, x[i : i + 1], cond={"shift": shift[i].item(), "scale": 2.0}, trace="exact")
        torch.testing.assert_close(found.log_prob[i : i + 1], alone.log_prob, rtol=0, atol=1e-9)


def test_the_network_is_evaluated_in_its_own_type(m, points):
    seen = []
    exact = m.model(sd.VP())  # its parameters are float64
    line = torch.nn.Linear(2, 2)
    nets = {F64: exact.net, torch.float32: lambda x, t: line(x)}
    for kind, net in nets.items():
        model = exact.map_net(lambda _, net=net: lambda y, t: seen.append((y.dtype, t.dtype)) or net(y, t))
        for x in (points[:4].float(), points[:4].double()):
            found = sd.log_likelihood(model, x, trace="exact")
            assert set(seen) == {(kind, kind)}
            assert (found.log_prob.dtype, found.latent.dtype) == (F64, F64)
        seen.clear()
    rounded, right = (sd.log_likelihood(exact, x, trace="exact").log_prob for x in (points[:4].float(), points[:4]))
    torch.testing.assert_close(rounded, right, rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "two_passes"}, "unknown method 'two_passes': did you mean 'two_pass'"),
        ({"preset": "literatur"}, "unknown preset 'literatur': did you mean 'literature'"),
        ({"integrator": "RK45"}, r'integrator=.RK45.: two passes take one of .*dopri5.*write method="ode"'),
        ({"variable": "t"}, "unknown variable of two_pass 't': write angle"),
        ({"nodes": 0}, "nodes=0: at least 1 is needed"),
        ({"max_steps": 0}, "max_steps=0: at least 1 is needed"),
        ({"prior": "full"}, "prior='full' needs the data's statistics, which this model lacks"),
        ({"solver_error": "guess"}, "unknown solver_error 'guess'"),
        ({"method": "ode", "frozen": True}, "does not belong to method='ode': it is for 'two_pass'"),
        ({"method": "ode", "autograd": False}, "does not belong to method='ode': it is for 'two_pass'"),
        ({"rtol": -1.0}, "tolerances must be positive"),
    ],
)
def test_wrong_arguments_are_refused(m, points, options, message):
    with pytest.raises(ValueError, match=message):
        sd.log_likelihood(m.model(sd.VP()), points[:2], **options)


def test_statistics_of_other_samples_are_refused(m, points):
    model = dataclasses.replace(m.model(sd.VP()), stats=stats_of(sd.target("gmm64")))
    with pytest.raises(ValueError, match=r"statistics are of samples \(1, 8, 8\), x has samples \(2,\)"):
        sd.log_likelihood(model, points[:2])
