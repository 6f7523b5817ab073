"""Training: dequantised data, repeatable steps, rates, a fit, faults."""

import math

import pytest
import torch
from torch import nn

import sdediff as sd
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


def _diverged(model, x0, cond, draws):
    return math.nan * default_loss(model, x0)


def test_faults_of_training_are_named():
    model = ScoreModel(MLP(1, 8, 1), VP())
    with pytest.raises(TrainingError, match="the loss is nan at update 0: lower rate"):
        train(model, iter([torch.ones(2, 1)]), TrainingSettings(updates=1), _diverged)
    with pytest.raises(TrainingError, match=r"needs an nn\.Module"):
        train(ScoreModel(lambda x, t: x, VP()), iter([torch.zeros(2, 1)]), TrainingSettings(updates=1))
    assert isinstance(model.net, nn.Module)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("updates", v) for v in (0, 2.5, "a", True)], *[("rate", v) for v in ("a", -1, 0.0, math.nan)],
        *[("warmup", v) for v in (-1, 1.5)], *[("clip", v) for v in (-1, 0.0, math.inf)],
        *[("average", v) for v in (1.0, -0.1)], *[("floor", v) for v in (5, -1)], *[("seed", v) for v in (-1, 0.5)],
    ],
)  # fmt: skip
def test_settings_without_a_meaning_are_refused(name, value):
    with pytest.raises(sd.Error, match=f"^{name}={value!r}.*: give "):
        TrainingSettings(**{name: value})
    assert TrainingSettings(warmup=0, average=0.0, floor=1.0).rate_at(0) == 2e-3


def test_a_network_is_no_model_and_batches_may_end():
    net = MLP(1, 8, 1)
    with pytest.raises(sd.Error, match=r"needed is a ScoreModel: write sd\.ScoreModel\(net"):
        train(net, iter([torch.zeros(2, 1)]), TrainingSettings(updates=1))
    with pytest.raises(sd.Error, match=r"give an iterator of tensors \(B, \.\.\.\), such as iter\(batches\)"):
        train(ScoreModel(net, VP()), [torch.zeros(2, 1)], TrainingSettings(updates=1))
    with pytest.raises(TrainingError, match="batches gave 2 batches, needed are 3"):
        train(ScoreModel(net, VP()), iter([torch.zeros(2, 1)] * 2), TrainingSettings(updates=3))


@pytest.mark.parametrize(
    ("gives", "match"),
    [("a", r"weighting\(level\)='a': give real numbers"), (torch.ones(3), r"give a weight for 2 times")],
)
def test_what_a_weighting_gives_is_a_weight(gives, match):
    with pytest.raises(sd.Error, match=match):
        default_loss(ScoreModel(MLP(1, 8, 1), VP()), torch.zeros(2, 1), weighting=lambda level: gives)
