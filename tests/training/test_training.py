"""Training: dequantised data, repeatable steps, rates, a fit, faults."""

import math

import pytest
import torch
from torch import nn

from sdediff.model.score_model import ScoreModel
from sdediff.nets import MLP, UNet
from sdediff.sde.processes import VE, VP
from sdediff.training import TrainingError, TrainingSettings, build, dequantised, train
from sdediff.training import loss as default_loss


def small(**changes):
    return UNet(width=8, blocks=1, attention=2, **changes)


def test_build_leaves_the_global_random_state():
    before = torch.random.get_rng_state()
    a, b, c = (build(lambda: MLP(2, 8), seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(a.first.weight, b.first.weight)
    assert not torch.equal(a.first.weight, c.first.weight)


def images():
    return torch.arange(64 * 64).reshape(64, 1, 8, 8) % 17


def test_dequantised_fills_every_bin_and_draws_afresh():
    k = torch.arange(17).repeat(40)[:, None]
    batches = dequantised(k, 17, 680, torch.Generator().manual_seed(0))
    first, second = next(batches), next(batches)
    for x in (first, second):
        assert torch.equal(((x + 1) * 17 / 2).floor().sort(0).values, k.sort(0).values.float())
    assert not torch.equal(first.sort(0).values, second.sort(0).values)
    with pytest.raises(TrainingError, match="batch=681"):
        next(dequantised(k, 17, 681, torch.Generator()))


@pytest.mark.parametrize("sde", [VP(), VE(sigma_max=20.0)], ids=["vp", "ve"])
def test_twenty_updates_are_the_same_to_the_bit(sde):
    def run(seed):
        score = isinstance(sde, VE)
        net = build(lambda: small(clock="log", input="ve" if score else "plain"), seed)
        model = ScoreModel(net, sde, *(("score", "sigma") if score else ("eps", "t")))
        batches = dequantised(images(), 17, 32, torch.Generator().manual_seed(seed))
        log = train(model, batches, TrainingSettings(updates=20, warmup=5, seed=seed))
        assert not net.training
        return log.losses, net.state_dict()

    before = torch.random.get_rng_state()
    (losses, weights), (again, same), (other, _) = run(0), run(0), run(1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert losses == again
    assert all(torch.equal(weights[n], same[n]) for n in weights)
    assert losses != other


def test_training_fits_a_gaussian():
    # N(0, 0.5^2) under VP: the best eps-network is linear, eps = sigma x / (alpha^2 / 4 + sigma^2).
    sde, generator = VP(), torch.Generator().manual_seed(0)
    model = ScoreModel(build(lambda: MLP(1, 32, 2, clock="log")), sde)
    batches = iter(lambda: 0.5 * torch.randn(256, 1, generator=generator), None)
    train(model, batches, TrainingSettings(updates=250, rate=5e-3, average=0.98))
    x, t = torch.linspace(-1, 1, 21)[:, None], torch.linspace(0.05, 1, 21, dtype=torch.float64)
    alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
    with torch.no_grad():
        error = (model(x, t).eps - sigma * x / (alpha**2 / 4 + sigma**2)).square().mean().sqrt()
    assert error < 0.1


def test_rate_rises_then_falls_as_a_cosine():
    options = TrainingSettings(updates=110, rate=1.0, warmup=10, floor=0.1)
    assert options.rate_at(0) == pytest.approx(0.1)
    assert options.rate_at(9) == options.rate_at(10) == 1.0
    assert options.rate_at(60) == pytest.approx(0.55)
    assert options.rate_at(110) == pytest.approx(0.1)


def _diverged(model, x0, generator):
    return math.nan * default_loss(model, x0, generator=generator)


def test_faults_of_training_are_named():
    model = ScoreModel(MLP(1, 8, 1), VP())
    with pytest.raises(TrainingError, match="the loss is nan at update 0: lower rate"):
        train(model, iter([torch.ones(2, 1)]), TrainingSettings(updates=1), _diverged)
    with pytest.raises(TrainingError, match=r"needs an nn\.Module"):
        train(ScoreModel(lambda x, t: x, VP()), iter([torch.zeros(2, 1)]), TrainingSettings(updates=1))
    with pytest.raises(TrainingError, match="updates=0"):
        TrainingSettings(updates=0)
    with pytest.raises(TrainingError, match="average=1"):
        TrainingSettings(average=1.0)
    assert isinstance(model.net, nn.Module)
