"""Variational bounds of the chain: closed forms, A6, A7, A12.

Statistical tests have a fixed seed and allow 4.9 standard errors: less than once in a million by chance.
"""

import math

import pytest
import torch
from torch import nn

import sdediff as sd
from sdediff.likelihood import bounds

F64 = torch.float64
Z = 4.9
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=F64)


class Gamma(sd.LinearSDE):
    """VP with the log-SNR of VDM, gamma from -8 to 6 in time's own shape."""

    t_min = t0 = 0.01

    def __init__(self, shape):
        self.shape = shape

    def _gamma(self, t):
        return -8 + 14 * self.shape((t - self.t0) / (1 - self.t0))

    def alpha(self, t):
        return torch.sqrt(torch.sigmoid(-self._gamma(t)))

    def sigma(self, t):
        return torch.sqrt(torch.sigmoid(self._gamma(t)))


SHAPES = {
    "linear": lambda u: u,
    "cosine": lambda u: 0.9 * (1 - torch.cos(math.pi * u)) / 2 + 0.1 * u,
    "cubic": lambda u: 0.9 * u**3 + 0.1 * u,
}


@pytest.fixture(scope="module")
def m():
    return sd.target("target_m")


@pytest.fixture(scope="module")
def points(m):
    return m.sample(4096, seed=3, dtype=F64)


def test_l_t_of_ho_et_al(m):
    table = sd.Table.from_betas(BETAS)
    found = sd.log_likelihood(m.model(table), torch.ones(3, 2, dtype=F64), method="vlb", steps=5, prior="unit")
    bits = -found.terms["prior"] / (2 * math.log(2))
    assert bits.tolist() == pytest.approx([2.91129454203e-5] * 3, rel=1e-10)


class Affine(nn.Module):
    """Any function of the state will do: with a variance of its own beside it."""

    def forward(self, x, t):
        at = t.to(x).reshape(-1, 1) / 1000
        return torch.cat([0.6 * x - at, torch.tanh(x + at)], 1)


def _nichol(x, z, kind, abar):
    """Terms in nats of Ho et al. 2020 and Nichol and Dhariwal 2021, written from betas alone, z (T, B, D)."""
    beta, before = (
        1 - abar / torch.cat([torch.ones(1, dtype=F64), abar[:-1]]),
        torch.cat([torch.ones(1, dtype=F64), abar[:-1]]),
    )
    btilde = (1 - before) / (1 - abar) * beta
    clipped = torch.cat([btilde[1:2], btilde[1:]])
    total, decoder = 0, None
    for i in reversed(range(len(abar))):
        xt = abar[i].sqrt() * x + (1 - abar[i]).sqrt() * z[i]
        eps, v = Affine()(xt, torch.full((len(x),), float(i))).chunk(2, 1)
        x0 = (xt - (1 - abar[i]).sqrt() * eps) / abar[i].sqrt()
        c0, ct = (
            before[i].sqrt() * beta[i] / (1 - abar[i]),
            (beta[i].neg() + 1).sqrt() * (1 - before[i]) / (1 - abar[i]),
        )
        large = beta[i] if i or kind != "large" else clipped[0]
        log_var = {
            "small": clipped[i].log().expand_as(x), "large": large.log().expand_as(x),
            "learned_range": (v + 1) / 2 * beta[i].log() + (1 - v) / 2 * clipped[i].log(),
        }[kind]  # fmt: skip
        if i:
            gap = (c0 * x + ct * xt) - (c0 * x0 + ct * xt)
            kl = 0.5 * (log_var - clipped[i].log() - 1 + (clipped[i].log() - log_var).exp() + gap**2 * (-log_var).exp())
            total = total - kl.sum(1)
        else:
            normal = torch.distributions.Normal(c0 * x0 + ct * xt, (log_var / 2).exp())
            decoder = normal.log_prob(x).sum(1)
    return total, decoder


@pytest.mark.parametrize("kind", ["small", "large", "learned_range"])
def test_every_term_is_the_papers(monkeypatch, kind):
    abar = torch.cumprod(1 - torch.linspace(1e-3, 0.3, 20, dtype=F64), 0)
    x = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) / 2
    z = torch.randn(20, 4, 3, dtype=F64, generator=torch.Generator().manual_seed(1))

    def drawn(seed, index, stream, shape):
        """The levels' own normals: numbers count from noise to data, the decoder's is _DECODER."""
        number = stream[0] - bounds._STREAM
        return z[0 if number == bounds._DECODER else 19 - number].numpy()

    monkeypatch.setattr(bounds, "normals", drawn)
    model = sd.ScoreModel(Affine(), sd.Table.from_alpha_bars(abar), time="index")
    found = sd.log_likelihood(model, x, method="vlb", variance=kind)
    chain, decoder = _nichol(x, z, kind, abar)
    torch.testing.assert_close(found.terms["diffusion"], chain, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.terms["decoder"], decoder, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.log_prob, sum(found.terms.values()))
    assert found.calls.tolist() == [21] * 4
    assert found.status == ("ok",) * 4


def test_more_steps_are_better_a7(m, points):
    exact = (14.724726, 9.353196, 7.610663, 6.902549, 6.582650, 6.430525)
    limit, gaps = 6.283367, []
    for n, value in zip((8, 16, 32, 64, 128, 256), exact, strict=True):
        model = m.model(Gamma(SHAPES["linear"]))
        found = -sd.log_likelihood(model, points, method="vlb", steps=n, noises=2, micro_batch=4096).terms["diffusion"]
        assert abs(found.mean().item() - value) < Z * found.std().item() / 64
        gaps.append(found.mean().item() - limit)
    assert gaps == sorted(gaps, reverse=True)


def test_l_infinity_does_not_depend_on_the_schedule_a6(m, points):
    found = {
        name: -sd.log_likelihood(
            m.model(Gamma(shape)), points[:512], method="continuous_vlb", variable="t", steps=256, fresh=False, noises=4
        ).terms["diffusion"]
        for name, shape in SHAPES.items()
    }
    for name in ("cosine", "cubic"):
        torch.testing.assert_close(found[name], found["linear"], rtol=0, atol=1e-5)
    fresh = sd.log_likelihood(
        m.model(Gamma(SHAPES["linear"])), points, method="continuous_vlb", noises=2, micro_batch=4096
    )
    loss = -fresh.terms["diffusion"]
    assert abs(loss.mean().item() - 6.2833667) < Z * loss.std().item() / 64


def test_the_bound_lies_below_the_flow_and_closes_at_order_one_a12(m, points):
    sde, t0 = sd.VP(), 1e-3
    here = sd.level(sde, t0)
    z = torch.randn(points.shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    x = here.alpha * points + here.sigma * z
    flow = sd.log_likelihood(
        m.model(sde), x[:256], end="t0", t0=t0, trace="exact", rtol=1e-6, atol=1e-6, nodes=4,
        prior=lambda latent: m.log_prob(latent, sde, sde.T),
    ).log_prob  # fmt: skip
    true = m.log_prob(x, sde, t0)
    torch.testing.assert_close(flow, true[:256], rtol=0, atol=1e-4)
    gaps, errors = [], []
    for n in (16, 32, 64, 128):
        bound = sd.log_likelihood(
            m.model(sde), x, method="vlb", end="t0", t0=t0, steps=n, noises=4, micro_batch=4096
        ).log_prob
        gaps.append((true - bound).mean().item())
        errors.append((true - bound).std().item() / 64)
    assert all(gap > -Z * error for gap, error in zip(gaps, errors, strict=True))
    for wide, narrow, e_wide, e_narrow in zip(gaps, gaps[1:], errors, errors[1:], strict=False):
        assert abs(narrow - wide / 2) < Z * math.hypot(e_narrow, e_wide / 2) + 0.1 * wide


def test_infinitely_many_steps_reach_the_density_of_an_exact_score(m, points):
    found = sd.log_likelihood(
        m.model(Gamma(SHAPES["linear"])), points, method="continuous_vlb", noises=4, micro_batch=4096
    )
    apart = found.log_prob - m.log_prob(points)
    assert abs(apart.mean().item()) < Z * apart.std().item() / 64 + 1e-3
    # What one sample's error is told to be is what it is: the spread of the bound around its mean over seeds.
    one = points[:1].expand(4096, 2)
    again = sd.log_likelihood(
        m.model(Gamma(SHAPES["linear"])), one, method="continuous_vlb", noises=2, micro_batch=4096
    )
    told = again.std_error.square().mean().sqrt().item()
    assert again.log_prob.std().item() == pytest.approx(told, rel=0.08)


def test_one_draw_a_level_tells_its_error_too(m):
    one = m.sample(1, seed=5, dtype=F64).expand(4096, 2)
    for steps in (64, 65):
        found = sd.log_likelihood(m.model(sd.VP()), one, method="vlb", steps=steps, micro_batch=4096)
        told = found.std_error.square().mean().sqrt().item()
        assert 0.92 < told / found.log_prob.std().item() < 1.3
