"""Networks: shapes, clocks, labels, inputs, derivatives."""

import pytest
import torch

from sdediff.nets import MLP, NETS, UNet
from sdediff.nets.embedding import ClockEmbedding
from sdediff.training import build


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
