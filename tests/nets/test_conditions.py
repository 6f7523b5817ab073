"""Conditions and options of the networks: tokens, learned variances, Fourier features, dropout, the classifier."""

import math

import pytest
import torch

import sdediff as sd
from sdediff.nets import MLP, NETS, Classifier, UNet
from sdediff.nets.blocks import Attention, level_features
from sdediff.training import Draws, Objective, VariationalBound, build


def shaken(net, seed=0):
    """Weights that let every part of the network reach its output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return net


def images(n=3, seed=0):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def small(**fields):
    return shaken(UNet(width=8, blocks=1, attention=2, **fields))


def test_attention_is_the_softmax_of_scaled_products():
    layer, x = shaken(Attention(8, 2)).double(), torch.randn(2, 8, 3, 3, dtype=torch.float64)
    rows = layer.norm(x).flatten(2).transpose(1, 2)
    heads = []
    for h in range(2):
        q, k, v = (part(rows)[..., 4 * h : 4 * h + 4] for part in (layer.to_q, layer.to_k, layer.to_v))
        heads.append(torch.softmax(torch.einsum("bic,bjc->bij", q, k) / 2, -1) @ v)
    expected = x + layer.to_out(torch.cat(heads, -1)).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected)


def test_adapters_find_the_attention_layers():
    linear = [name for name, m in small(tokens=5).named_modules() if isinstance(m, torch.nn.Linear)]
    for layer in ("attention", "cross"):
        assert {f"{layer}.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0")} <= set(linear)
    assert not any(m.bias is not None for n, m in small(tokens=5).named_modules() if n in ("cross.to_k", "cross.to_v"))


def test_the_output_projection_keeps_its_name_in_files():
    net = small(tokens=5)
    state = net.state_dict()
    assert {"attention.to_out.weight", "cross.to_out.bias"} <= state.keys()
    assert not any("to_out.0" in name for name in state)
    other = shaken(UNet(width=8, blocks=1, attention=2, tokens=5), seed=9)
    other.load_state_dict(state)
    assert torch.equal(other.attention.to_out[0].weight, net.attention.to_out[0].weight)


def test_tokens_are_attended_to_and_their_order_does_not_matter():
    net, x, t = small(tokens=5), images(), torch.full((3,), 0.5)
    tokens = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    found = net(x, t, tokens=tokens)
    assert (found - net(x, t, tokens=2 * tokens)).abs().max() > 1e-4
    torch.testing.assert_close(found, net(x, t, tokens=tokens[:, [2, 0, 3, 1]]))
    rows = torch.cat([net(x[i : i + 1], t[:1], tokens=tokens[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(found, rows, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(x, t), net(x, t, tokens=net.no_tokens.expand(3, 4, 5)))
    with pytest.raises(sd.Error, match=r"give \(3, M, 5\)"):
        net(x, t, tokens=tokens[..., :4])
    with pytest.raises(sd.Error, match="made without tokens"):
        small()(x, t, tokens=tokens)


def test_dropped_tokens_become_the_learned_row_and_teach_it():
    net = small(tokens=5, classes=3)
    model = sd.ScoreModel(net, sd.VP())
    cond = {"tokens": torch.ones(8, 2, 5), "label": torch.zeros(8, dtype=torch.long)}
    Objective(drop=0.5)(model, images(8), cond, Draws(0, 0, 0, 8)).mean().backward()
    assert net.no_tokens.grad.abs().max() > 0
    assert net.label.weight.grad[3].abs().max() > 0


def test_networks_with_tokens_have_second_derivatives():
    net, tokens = small(tokens=4).double(), torch.randn(1, 3, 4, dtype=torch.float64)
    x, t = images(1).double().requires_grad_(), torch.ones(1, dtype=torch.float64)

    def slope(x):
        return torch.autograd.grad(net(x, t, tokens=tokens).square().sum(), x, create_graph=True)[0]

    (twice,) = torch.autograd.grad(slope(x).sum(), x)
    step = torch.zeros_like(x)
    step.view(-1)[9] = 1e-5
    numeric = (slope(x + step) - slope(x - step)).sum() / 2e-5
    assert twice.view(-1)[9].item() == pytest.approx(numeric.item(), rel=1e-5)


@pytest.mark.parametrize("net", [small(variance=True), shaken(MLP(64, 16, 1, variance=True))], ids=["unet", "mlp"])
def test_learned_variances_double_the_channels(net):
    out = net(images(), torch.full((3,), 0.5))
    assert out.shape == (3, 2, 8, 8)
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    losses = VariationalBound()(sd.ScoreModel(net, table, time="index"), images(), {}, Draws(0))
    losses.mean().backward()
    assert losses.isfinite().all()
    fresh = NETS[type(net).__name__](**net.config).eval()  # whose variance lies in the middle of the range
    model = sd.ScoreModel(fresh, table, time="index")
    ddpm = sd.solver("ddpm", variance="learned_range")
    assert sd.sample(model, (2, 1, 8, 8), solver=ddpm, steps=4).isfinite().all()


def test_level_features_have_periods_of_two_levels_and_one():
    x, width = torch.linspace(-1, 1, 9, dtype=torch.float64)[None, None], 2 / 16
    found = level_features(x, 16)
    assert found.shape == (1, 5, 9)
    torch.testing.assert_close(level_features(x + 2 * width, 16)[:, 1:], found[:, 1:])
    torch.testing.assert_close(level_features(x + width, 16)[:, 3:], found[:, 3:])
    torch.testing.assert_close(level_features(x + width, 16)[:, 1:3], -found[:, 1:3])
    torch.testing.assert_close(found[:, 1], (8 * math.pi * x[:, 0]).sin())
    assert small(levels=17)(images(), torch.ones(3)).shape == (3, 1, 8, 8)


def test_fourier_embeddings_are_drawn_once_and_kept():
    one, same, other = (build(lambda: MLP(2, 8, 1, embedding="fourier"), seed) for seed in (0, 0, 1))
    assert torch.equal(one.embed.frequencies, same.embed.frequencies)
    assert not torch.equal(one.embed.frequencies, other.embed.frequencies)
    assert "embed.frequencies" in one.state_dict()
    with pytest.raises(sd.Error, match="embedding='sine'"):
        MLP(2, 8, 1, embedding="sine")


def test_dropout_is_active_in_training_alone():
    net, x, t = small(dropout=0.5), images(), torch.full((3,), 0.5)
    assert not torch.equal(net.train()(x, t), net(x, t))
    assert torch.equal(net.eval()(x, t), net(x, t))


def test_the_classifier_gives_logits_that_depend_on_the_noise_level():
    net, x = shaken(Classifier(10, width=8, attention=2)), images()
    logits = net(x, torch.full((3,), 0.5))
    assert logits.shape == (3, 10)
    assert (logits - net(x, torch.full((3,), 2.0))).abs().max() > 1e-3
    torch.testing.assert_close(logits[1:2], net(x[1:2], torch.full((1,), 0.5)), rtol=1e-4, atol=1e-5)
    again = NETS["Classifier"](**net.config)
    again.load_state_dict(net.state_dict())
    with pytest.raises(sd.Error, match="divisible by 2"):
        net(torch.zeros(1, 1, 7, 8), torch.ones(1))
    with pytest.raises(sd.Error, match="classes=1"):
        Classifier(1)


def test_options_that_contradict_each_other_are_refused():
    for make in (lambda: small(variance=True, input="ve"), lambda: MLP(2, 8, 1, input="ve", variance=True)):
        with pytest.raises(sd.Error, match='input="ve" gives a score'):
            make()
