"""Variational bounds and the noised bound: golden values, closed forms, A6, A7, A12, and the mistakes that are known.

Statistical tests have a fixed seed and allow 4.9 standard errors: less than once in a million by chance.
"""

import math

import pytest
import torch
from torch import nn

import sdediff as sd
from sdediff.likelihood import bounds
from sdediff.likelihood.decoder import gaussian_log_prob, level_log_prob
from sdediff.targets import Mixture

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
    return sd.problem("target_m")


@pytest.fixture(scope="module")
def points(m):
    return m.sample(4096, seed=3, dtype=F64)


# --- p(x0 | x_t) --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "mean", "std", "value"),
    [
        (0.0, 0.0, 0.01, -1.18725438924),
        (0.5, 0.4, 0.1, -3.96446984421),
        (-1.0, -1.0, 0.05, -0.632508364681),
        (1.0, 0.9, 0.05, -3.5997691936),
    ],
)
def test_the_discretised_gaussians_golden_values(x, mean, std, value):
    bins = sd.Discrete(256, mapping="ends")
    found = gaussian_log_prob(torch.tensor([[x]], dtype=F64), torch.tensor([[mean]], dtype=F64), math.log(std), bins)
    assert found.item() == pytest.approx(value, rel=1e-11)


@pytest.mark.parametrize("mapping", ["cells", "ends"])
@pytest.mark.parametrize("std", [1e-3, 0.05, 3.0])
def test_probabilities_of_levels_add_up_to_one(mapping, std):
    bins = sd.Discrete(17, (0.0, 2.0), mapping)
    values = bins.values[:, None]
    mean = torch.full_like(values, 0.37)
    assert gaussian_log_prob(values, mean, math.log(std), bins).exp().sum().item() == pytest.approx(1, abs=1e-12)
    here = sd.level(sd.VE(), 0.3)
    assert level_log_prob(values, mean, here, bins).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_a_far_level_has_a_finite_log_probability():
    bins = sd.Discrete(256)
    x, mean = torch.full((1, 1), bins.values[0].item(), dtype=F64), torch.ones(1, 1, dtype=F64)
    far = gaussian_log_prob(x + bins.width, mean, math.log(0.01), bins).item()
    assert -math.inf < far < -1e4


@pytest.mark.parametrize(
    ("mapping", "first", "last", "bits"), [("cells", -255 / 256, 255 / 256, 7.0), ("ends", -1.0, 1.0, math.log2(127.5))]
)
def test_where_levels_lie(mapping, first, last, bits):
    d = sd.Discrete(256, mapping=mapping)
    assert (d.values[0].item(), d.values[-1].item()) == pytest.approx((first, last), abs=1e-15)
    assert -math.log2(d.width) == pytest.approx(bits)
    assert d.checked(d.values[:, None].float()).shape == (256, 1)


def test_dequantised_data_are_no_levels(m):
    x = torch.full((3, 2), 0.1)
    with pytest.raises(ValueError, match=r"row 0 of x is .* of a bin away .* not dequantised data"):
        sd.log_likelihood(m.model(sd.VP()), x, method="vlb", steps=4, discrete=sd.Discrete(4))


# --- the chain ----------------------------------------------------------------------------------------------------


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
        """The levels' own normals: numbers count from noise to data, the decoder's is _CLEAN."""
        number = stream[0] - bounds._STREAM
        return z[0 if number == bounds._CLEAN else 19 - number].numpy()

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


# --- the noised bound ---------------------------------------------------------------------------------------------


def _coins(std=1e-4):
    """Data of four levels in one dimension, of unequal probabilities: a mixture of all but points."""
    bins = sd.Discrete(4)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64)
    return bins, weights, Mixture(weights, bins.values[:, None], torch.full((4, 1), std**2, dtype=F64))


@pytest.mark.parametrize("t0", [0.02, 0.08])
@pytest.mark.parametrize("method", ["two_pass", "ode"])
def test_the_noised_bound_of_levels(t0, method):
    bins, weights, problem = _coins()
    x = bins.values[:, None]
    model = problem.model(sd.VP())
    draws = 256
    every = x.repeat(draws, 1)
    options = {"rtol": 1e-4, "atol": 1e-4} if method == "two_pass" else {}
    found = sd.log_likelihood(
        model, every, method=method, end="noised", t0=t0, discrete=bins, trace="exact", **options, micro_batch=1024,
        prior=lambda z: problem.log_prob(z, sd.VP(), 1.0),
    )  # fmt: skip
    each = found.log_prob.reshape(draws, 4)
    mean, error = each.mean(0), each.std(0) / math.sqrt(draws)
    entropy = (weights * weights.log()).sum().item()
    assert found.mass
    assert (weights * mean).sum().item() < entropy + Z * (weights * error).square().sum().sqrt().item()
    if t0 == 0.02:  # sigma is a twelfth of a level there: nothing is lost
        torch.testing.assert_close(mean, weights.log(), rtol=0, atol=0.02)
    # The mean of the weights of importance is the probability: of p_t0 seen through the decoder, by quadrature.
    here = sd.level(sd.VP(), t0)
    z = torch.linspace(-2, 2, 4001, dtype=F64)[:, None]
    density = problem.log_prob(z, sd.VP(), t0).exp() * 1e-3
    exact = torch.stack([(density * level_log_prob(v.expand(4001, 1), z, here, bins).exp()).sum() for v in x])
    assert exact.sum().item() == pytest.approx(1, abs=1e-6)
    weight = each.exp()
    spread = weight.std(0) / math.sqrt(draws)
    assert bool(((weight.mean(0) - exact).abs() < Z * spread + 1e-3).all())
    bits = sd.bits_per_dim(found)
    torch.testing.assert_close(bits, -found.log_prob / math.log(2))


def test_the_entropy_is_part_of_the_bound(m, points):
    """Dropping it once gave a published result .92 bits/dim too good; here the two terms cancel to D log alpha."""
    sde = sd.VP()
    found = sd.log_likelihood(m.model(sde), points[:8], end="noised", t0=0.01, trace="exact")
    here = sd.level(sde, 0.01)
    both = found.terms["decoder"] + found.terms["entropy"]
    torch.testing.assert_close(both, torch.full_like(both, 2 * math.log(here.alpha)))
    assert not found.mass
    assert set(found.terms) == {"prior", "divergence", "path", "width", "decoder", "entropy"}


# --- what holds for all ---------------------------------------------------------------------------------------------


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
        ({"method": "vlb", "noises": 0}, "noises=0: at least one"),
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
