"""Denoising score matching against closed forms on Gaussian data.

With the exact network of N(m, C) the expected squared error of eps is alpha^2 c / (alpha^2 c + sigma^2) in
the direction of an eigenvalue c: what is left is the noise that nobody can know.
"""

import math

import pytest
import torch

import sdediff as sd
from sdediff.training import WEIGHTINGS, training_times

F64 = torch.float64
MEAN = torch.tensor([0.5, -1.0, 0.0], dtype=F64)
VAR = torch.tensor([0.3, 2.0, 0.01], dtype=F64)
N = 20_000


def exact(sde, predicts="eps"):
    """The exact network of N(MEAN, diag VAR), saying whatever is asked for."""

    def score(x, t):
        alpha, sigma = (v[:, None] for v in sde.marginal(t.double()))
        return (-(x - alpha * MEAN) / (alpha**2 * VAR + sigma**2)).to(x)

    said = sd.ScoreModel(score, sde, predicts="score", time="t")
    return sd.ScoreModel(lambda x, t: getattr(said(x, t), predicts), sde, predicts=predicts, time="t")


@pytest.fixture(scope="module")
def batch():
    """Data, noise and half the batch's uniform numbers, float64, from torch's own generator."""
    g = torch.Generator().manual_seed(4)
    data = MEAN + VAR.sqrt() * torch.randn(N, 3, generator=g, dtype=F64)
    return data, torch.randn(N, 3, generator=g, dtype=F64), torch.rand(N, generator=g, dtype=F64)


def remaining(sde, t):
    """E |eps - eps_hat|^2 a dimension at times t, for the exact network."""
    alpha, sigma = (v[:, None] for v in sde.marginal(t))
    return (alpha**2 * VAR / (alpha**2 * VAR + sigma**2)).mean(1)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
def test_the_exact_networks_loss_is_the_closed_form_at_every_time(sde, batch, share):
    data, eps, _ = batch
    t = torch.full((N,), sde.t_min + share * (sde.t_max - sde.t_min), dtype=F64)
    found = sd.loss(exact(sde), data, t=t, eps=eps)
    assert found.shape == (N,)
    standard_error = found.std() / math.sqrt(N)  # about 1 % of the value
    assert abs(found.mean() - remaining(sde, t[:1]).item()) < 4.9 * standard_error + 1e-12


@pytest.mark.parametrize("make", [sd.VP, sd.VE, sd.RectifiedFlow])
@pytest.mark.parametrize("spread", ["t", "lam"])
def test_the_expected_loss_over_times_is_the_closed_forms_integral(make, spread, batch):
    # Default times are stratified: the standard error is taken from the residuals a sample, which bounds it.
    sde, data = make(), batch[0]
    found = sd.loss(exact(sde), data, spread=spread, generator=torch.Generator().manual_seed(1))
    u = (torch.arange(4000, dtype=F64) + 0.5) / 4000
    low, high = sde.lam([sde.t_max, sde.t_min]).tolist()
    t = sde.t_min + (sde.t_max - sde.t_min) * u if spread == "t" else sde.t_of_lam(low + (high - low) * u)
    expected = remaining(sde, t).mean()
    assert abs(found.mean() - expected) < 4.9 * found.std() / math.sqrt(N)
    # A shuffled pairing of data and noise would be caught: a wrong network is worse by far.
    worse = sd.loss(sd.ScoreModel(lambda x, t: 0 * x, sde), data, generator=torch.Generator().manual_seed(1))
    assert worse.mean() == pytest.approx(1.0, abs=4.9 * math.sqrt(2 / 3 / N))


@pytest.mark.parametrize("predicts", ["x0", "eps", "score", "v", "velocity"])
def test_the_loss_does_not_depend_on_the_parametrisation(sde, times_inside, predicts, batch):
    data, eps = (v[:50] for v in batch[:2])
    places = times_inside(sde, 5)
    t = places.repeat(50)[:50]
    for name in WEIGHTINGS:
        if name == "min_snr" and not sde.lam([sde.T]).isfinite().all():
            continue
        found = sd.loss(exact(sde, predicts), data, t=t, eps=eps, weighting=name)
        expected = sd.loss(exact(sde), data, t=t, eps=eps, weighting=name)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_weightings_are_their_formulas(sde, times_inside, batch):
    data, eps = (v[:40] for v in batch[:2])
    t = times_inside(sde, 5).repeat(40)[:40]
    alpha, sigma = sde.marginal(t)
    simple = sd.loss(exact(sde), data, t=t, eps=eps)
    x_t = alpha[:, None] * data + sigma[:, None] * eps
    by_hand = (exact(sde)(x_t, t).eps - eps).square().mean(1)
    torch.testing.assert_close(simple, by_hand, rtol=1e-12, atol=0)
    snr = alpha**2 / sigma**2
    g2 = sde.diffusion(t) ** 2
    expected = {
        "simple": torch.ones(40, dtype=F64),
        # Song et al. 2021b: g^2/2 |score - target|^2, with the score's error eps's over sigma.
        "likelihood": g2 / (2 * sigma**2),
        # The others are weights on the error in x0, whose error in eps is alpha/sigma of it.
        "x0": 1 / snr,
        "truncated_snr": torch.maximum(snr, torch.tensor(1.0)) / snr,
        # Hang et al. 2023: min(SNR, 5) on the x0 loss, divided by SNR on eps.
        "min_snr": torch.minimum(snr, torch.tensor(5.0)) / snr,
        "p2": 1 / (1 + snr),
        "sigmoid": torch.sigmoid(2 - torch.log(snr)) * g2 / sigma**2,
        # Weight 1 on the error in v, in the velocity and in F of EDM with sigma_data = 1.
        "v": ((alpha**2 + sigma**2) / alpha) ** 2,
        "velocity": ((alpha * sde.slopes(t)[1] - sde.slopes(t)[0] * sigma) / alpha) ** 2,
        "edm": (alpha**2 + sigma**2) / alpha**2,
    }
    assert set(expected) == set(WEIGHTINGS)
    for name, weight in expected.items():
        found = sd.loss(exact(sde), data, t=t, eps=eps, weighting=name)
        torch.testing.assert_close(found, weight * simple, rtol=1e-9, atol=0)
    own = sd.loss(exact(sde), data, t=t, eps=eps, weighting=lambda here: here.sigma**2)
    torch.testing.assert_close(own, sigma**2 * simple, rtol=1e-12, atol=0)


def test_likelihood_weighting_is_the_score_loss_of_song_2021b(batch):
    sde, (data, eps, u) = sd.VP(), batch
    t = 0.1 + 0.8 * u
    model = exact(sde)
    alpha, sigma = (v[:, None] for v in sde.marginal(t))
    score = model(alpha * data + sigma * eps, t).score
    beta = 0.1 + 19.9 * t
    expected = beta / 2 * (score + eps / sigma).square().mean(1)
    torch.testing.assert_close(sd.loss(model, data, t=t, eps=eps, weighting="likelihood"), expected, rtol=1e-9, atol=0)


def test_gradients_reach_the_parameters_and_are_right(batch):
    # eps_hat = w x_t + b: the loss is quadratic in w and b, and its gradient is written out.
    sde, (data, eps, u) = sd.VP(), (v[:200] for v in batch)
    t = 0.1 + 0.8 * u
    w, b = (torch.tensor(v, dtype=F64, requires_grad=True) for v in (0.3, -0.1))
    sd.loss(sd.ScoreModel(lambda x, t: w * x + b, sde), data, t=t, eps=eps).mean().backward()
    alpha, sigma = (v[:, None] for v in sde.marginal(t))
    x_t = alpha * data + sigma * eps
    error = w.detach() * x_t + b.detach() - eps
    assert w.grad.item() == pytest.approx((2 * error * x_t).mean().item(), rel=1e-10)
    assert b.grad.item() == pytest.approx((2 * error).mean().item(), rel=1e-10)


def test_descent_on_the_loss_finds_the_exact_network(batch):
    # At one time the best linear eps_hat is sigma (x - alpha m) / (alpha^2 c + sigma^2), by least squares too.
    sde, (data, eps, _) = sd.VP(), batch
    t = torch.full((N,), 0.3, dtype=F64)
    here = sd.level(sde, 0.3)
    slope = here.sigma / (here.alpha**2 * VAR + here.sigma**2)
    w, b = slope.clone().requires_grad_(True), (-slope * here.alpha * MEAN).requires_grad_(True)
    sd.loss(sd.ScoreModel(lambda x, t: w * x + b, sde), data, t=t, eps=eps).mean().backward()
    # A stationary point: every component of the gradient is within 4.9 s.e. of zero (spread below 4 a sample).
    for grad in (w.grad, b.grad):
        assert grad.abs().max() < 4.9 * 4 / 3 / math.sqrt(N)
    w = (slope * 1.3).requires_grad_(True)
    sd.loss(sd.ScoreModel(lambda x, t: w * x + b.detach(), sde), data, t=t, eps=eps).mean().backward()
    assert w.grad.abs().max() > 4.9 * 4 / 3 / math.sqrt(N)


def test_default_times_are_stratified_and_cover_the_process():
    sde, seen = sd.VP(), []
    model = sd.ScoreModel(lambda x, t: seen.append(t) or x, sde)
    sd.loss(model, torch.zeros(64, 2, dtype=F64), generator=torch.Generator().manual_seed(0))
    shares = ((seen[0] - sde.t_min) / (sde.t_max - sde.t_min)).sort().values
    gaps = shares.diff()
    torch.testing.assert_close(gaps, torch.full((63,), 1 / 64, dtype=F64), rtol=1e-9, atol=1e-12)
    assert 0 <= shares[0] < 1 / 64
    # In lam they are even in the half log-SNR.
    spread = sde.lam(training_times(sde, torch.linspace(0, 1, 9, dtype=F64), "lam")).diff()
    torch.testing.assert_close(spread, spread.mean().expand(8), rtol=1e-8, atol=0)


def test_losses_repeat_with_their_generator_and_keep_the_states_dtype():
    model, data = sd.ScoreModel(lambda x, t: torch.tanh(x), sd.VP()), torch.ones(8, 3, 2)
    one, two, other = (sd.loss(model, data, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.dtype == torch.float32
    assert one.shape == (8,)
    assert torch.equal(data, torch.ones(8, 3, 2))


@pytest.mark.parametrize("make", [sd.RectifiedFlow, sd.Cosine])
def test_times_stay_where_eps_is_defined(make):
    sde = make()
    found = sd.loss(sd.ScoreModel(lambda x, t: x, sde), torch.zeros(500, 2, dtype=F64))
    assert found.isfinite().all()
    assert training_times(sde, torch.ones(1, dtype=F64)).item() == sde.t_max


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "minsnr"}, "unknown weighting 'minsnr': that is 'min_snr' here"),
        ({"spread": "sigma"}, "unknown spread of training times 'sigma'"),
    ],
)
def test_unknown_names_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sd.loss(sd.ScoreModel(lambda x, t: x, sd.VP()), torch.zeros(2, 2), **options)
