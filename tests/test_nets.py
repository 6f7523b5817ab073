import math

import pytest
import torch
from torch import nn

from sdediff.model.score_model.score_model import ScoreModel
from sdediff.nets import MLP, NETS, UNet
from sdediff.nets.embedding import ClockEmbedding
from sdediff.sde.base.processes import VE, VP
from sdediff.training import Options, build, dequantised, train
from sdediff.training.loop import TrainingError


def small(**changes):
    return UNet(width=8, blocks=1, attention=2, **changes)


def shaken(net, seed=0):
    """The network with its zero layers moved, so that what comes out depends on everything."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return net.eval()


@pytest.mark.parametrize("kind", ["t", "index", "linear", "log"])
def test_clock_embedding_tells_times_apart(kind):
    embed = build(lambda: ClockEmbedding(32, kind))
    clock = torch.tensor([1e-5, 1e-3, 0.5, 1.0]) * (999 if kind == "index" else 1)
    features = embed(clock)
    assert features.shape == (4, 32)
    assert torch.pdist(features).min() > (1e-6 if kind != "log" else 1e-2)


def test_unknown_clock_and_input_are_refused():
    with pytest.raises(ValueError, match="clock='hours': write one of t, index"):
        UNet(clock="hours")
    with pytest.raises(ValueError, match="input='vp': write one of plain, ve"):
        MLP(2, input="vp")


@pytest.mark.parametrize("multiples", [(1,), (1, 2), (1, 2, 2)])
@pytest.mark.parametrize("attention", [0, 2])
def test_unet_keeps_the_shape(multiples, attention):
    net = shaken(UNet(2, width=8, multiples=multiples, blocks=1, attention=attention))
    x = torch.randn(3, 2, 8, 12, generator=torch.Generator().manual_seed(0))
    out = net(x, torch.tensor([0.1, 0.5, 1.0]))
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert out.std() > 0


def test_unet_refuses_sides_that_do_not_halve():
    with pytest.raises(ValueError, match=r"sides divisible by 2, given \(1, 1, 7, 8\)"):
        small()(torch.zeros(1, 1, 7, 8), torch.ones(1))


@pytest.mark.parametrize("net", [small(clock="log"), MLP(64, 16, clock="log")], ids=["unet", "mlp"])
def test_samples_do_not_see_each_other(net):
    net = shaken(net).double()
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    clock = torch.tensor([1e-4, 0.1, 0.5, 1.0], dtype=torch.float64)
    whole = net(x, clock)
    for i in range(4):
        torch.testing.assert_close(net(x[i : i + 1], clock[i : i + 1]), whole[i : i + 1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [lambda **k: small(clock="log", **k), lambda **k: MLP(64, 16, clock="log", **k)])
def test_ve_input_gives_a_score(make):
    plain, ve = shaken(make()), make(input="ve")
    ve.load_state_dict(plain.state_dict())
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    sigma = torch.tensor([0.01, 20.0])
    by_hand = -plain(x / torch.sqrt(1 + sigma**2).reshape(2, 1, 1, 1), sigma) / sigma.reshape(2, 1, 1, 1)
    torch.testing.assert_close(ve(x, sigma), by_hand)


@pytest.mark.parametrize("make", [lambda **k: small(**k), lambda **k: MLP(64, 16, **k)])
def test_labels(make):
    net = shaken(make(classes=3))
    x, clock = torch.ones(2, 1, 8, 8), torch.full((2,), 0.5)
    none, first = net(x, clock), net(x, clock, label=0)
    assert not torch.equal(none, first)
    torch.testing.assert_close(net(x, clock, label=3), none)
    torch.testing.assert_close(net(x, clock, label=torch.tensor([0, 3])), torch.stack([first[0], none[1]]))
    with pytest.raises(ValueError, match=r"integers in \[0, 3\)"):
        net(x, clock, label=4)
    with pytest.raises(ValueError, match="made without classes"):
        make()(x, clock, label=1)


@pytest.mark.parametrize("net", [small(multiples=(1, 1), classes=2), MLP(5, 16, input="ve", classes=1)])
def test_config_makes_the_same_network(net):
    again = NETS[type(net).__name__](**net.config)
    again.load_state_dict(net.state_dict())
    assert again.config == net.config


def test_unet_has_second_derivatives_and_batched_ones():
    net = shaken(small()).double()
    x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64).requires_grad_()
    t = torch.ones(1, dtype=torch.float64) * 0.3
    (g,) = torch.autograd.grad(net(x, t).square().sum(), x, create_graph=True)
    (twice,) = torch.autograd.grad(g.sum(), x)
    assert twice.isfinite().all()
    rows = torch.eye(16, dtype=torch.float64).reshape(16, 1, 1, 4, 4)
    (jacobian,) = torch.autograd.grad(net(x, t), x, rows, is_grads_batched=True)
    step, h = torch.zeros_like(x), 1e-5
    step.view(-1)[5] = h
    with torch.no_grad():
        column = (net(x + step, t) - net(x - step, t)) / (2 * h)
    torch.testing.assert_close(jacobian.reshape(16, 16)[:, 5], column.reshape(-1), rtol=1e-6, atol=1e-8)


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
def test_twenty_steps_are_the_same_to_the_bit(sde):
    def run(seed):
        score = isinstance(sde, VE)
        net = build(lambda: small(clock="log", input="ve" if score else "plain"), seed)
        model = ScoreModel(net, sde, *(("score", "sigma") if score else ("eps", "t")))
        batches = dequantised(images(), 17, 32, torch.Generator().manual_seed(seed))
        record = train(model, batches, Options(steps=20, warmup=5, seed=seed))
        assert not net.training
        return record.losses, net.state_dict()

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
    train(model, batches, Options(steps=250, rate=5e-3, average=0.98))
    x, t = torch.linspace(-1, 1, 21)[:, None], torch.linspace(0.05, 1, 21, dtype=torch.float64)
    alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
    with torch.no_grad():
        error = (model(x, t).eps - sigma * x / (alpha**2 / 4 + sigma**2)).square().mean().sqrt()
    assert error < 0.1


def test_rate_rises_then_falls_as_a_cosine():
    options = Options(steps=110, rate=1.0, warmup=10, floor=0.1)
    assert options.rate_at(0) == pytest.approx(0.1)
    assert options.rate_at(9) == options.rate_at(10) == 1.0
    assert options.rate_at(60) == pytest.approx(0.55)
    assert options.rate_at(110) == pytest.approx(0.1)


def test_faults_of_training_are_named():
    model = ScoreModel(MLP(1, 8, 1), VP())
    with pytest.raises(TrainingError, match="the loss is nan at step 0: lower rate"):
        train(model, iter([torch.full((2, 1), math.nan)]), Options(steps=1))
    with pytest.raises(TrainingError, match=r"needs an nn\.Module"):
        train(ScoreModel(lambda x, t: x, VP()), iter([torch.zeros(2, 1)]), Options(steps=1))
    with pytest.raises(TrainingError, match="steps=0"):
        Options(steps=0)
    with pytest.raises(TrainingError, match="average=1"):
        Options(average=1.0)
    assert isinstance(model.net, nn.Module)
