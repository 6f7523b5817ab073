"""The bound of a table in training: golden values of DDPM and improved DDPM, gradients, timesteps by their losses."""

import math

import pytest
import torch

import sdediff as sd
from sdediff.likelihood import Discrete
from sdediff.training import Draws, LossHistory, VariationalBound, bound_terms

F64 = torch.float64
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
TABLE = sd.Table.from_betas(BETAS)


def term(t, x0, eps, eps_hat, v=None, variance="learned_range", sde=TABLE, **options):
    """L_{t-1} of (B, 1) data where the network says eps_hat, and v in [0, 1] of the variance."""

    def net(x, clock):
        said = eps_hat.expand_as(x)
        return said if v is None else torch.cat([said, (2 * v - 1).expand_as(x)], dim=1)

    at = sd.level(sde, torch.full((len(x0),), float(t), dtype=F64))
    x_t = at.alpha[:, None] * x0 + at.sigma[:, None] * eps
    prediction = sd.ScoreModel(net, sde)(x_t, at)
    return bound_terms(sde, prediction, x0, variance, **options)


def column(*values):
    return torch.tensor(values, dtype=F64)[:, None]


@pytest.mark.parametrize(("v", "expected"), [(0.0, 2.203278604e-4), (0.5, 2.202793458e-4), (1.0, 2.203244408e-4)])
def test_nichol_2021_divergence_of_learned_variances(v, expected):
    found = term(500, column(0.5), column(0.3), column(0.1), column(v)).item()
    assert found == pytest.approx(expected, rel=3e-10)


# beta^2/(2 Sigma alpha (1 - alpha_bar)) with Sigma = btilde and beta.
WEIGHTS = [(2, 0.599671512159, 0.272692084278), (500, 0.00550819651, 0.00550343193), (1000, 0.0102045018738, None)]


@pytest.mark.parametrize(("t", "small", "large"), WEIGHTS)
def test_ho_2020_weight_of_the_error_in_eps(t, small, large):
    for variance, expected in (("small", small), ("large", large)):
        right, wrong = (term(t, column(0.5), column(0.3), column(e), variance=variance).item() for e in (0.3, 1.3))
        if expected is not None:
            assert wrong - right == pytest.approx(expected, rel=2e-9)
        if variance == "small":
            snr = [math.exp(2 * TABLE.lam([float(k)]).item()) for k in (t - 1, t)]
            assert wrong - right == pytest.approx((snr[0] - snr[1]) / (2 * snr[1]), rel=1e-9)
            assert right == pytest.approx(0.0, abs=1e-15)


EXACT_V = [(2, 0.99954), (10, 0.99477), (100, 0.76561), (500, 0.26574), (1000, 0.25001)]


@pytest.mark.parametrize(("t", "expected"), EXACT_V)
def test_the_best_variance_is_that_of_the_exact_reverse_step(t, expected):
    # Data N(0, .25): four points of the exact moments of data and noise, and the exact denoiser.
    x0, eps = 0.5 * column(1, 1, -1, -1), column(1, -1, 1, -1)
    at = sd.level(TABLE, float(t))
    x_t = at.alpha * x0 + at.sigma * eps
    eps_hat = at.sigma * x_t / (0.25 * at.alpha**2 + at.sigma**2)
    slopes = []
    for v in (expected - 1e-5, expected + 1e-5):
        v = torch.tensor(v, dtype=F64, requires_grad=True)
        slopes.append(torch.autograd.grad(term(t, x0, eps, eps_hat, v).mean(), v)[0].item())
    assert slopes[0] < 0 < slopes[1]  # the least lies between, so at the five digits given


def test_the_gradient_of_the_bound_to_the_mean_is_zero():
    for stop, reaches in ((True, False), (False, True)):
        eps_hat, v = column(0.1, 0.2).requires_grad_(), column(0.3, 0.4).requires_grad_()
        for t in (1, 300):
            total = term(t, column(0.5, -0.1), column(0.3, 1.0), eps_hat, v, stop_mean=stop).sum()
            grads = torch.autograd.grad(total, (eps_hat, v), allow_unused=True)
            assert (grads[0] is not None and grads[0].abs().min() > 0) == reaches
            assert grads[1].abs().min() > 0


def _learned(x, t):
    return torch.cat([0.3 * x + 0.01 * t[:, None], 0.2 * x - 0.1], dim=1)


@pytest.mark.parametrize("variance", ["small", "large", "learned_range"])
def test_the_terms_are_those_of_the_likelihood(variance):
    n, bins = 10, Discrete(17)
    table = sd.Table.from_betas(torch.linspace(0.01, 0.6, n, dtype=F64))
    model = sd.ScoreModel(_learned if variance == "learned_range" else lambda x, t: _learned(x, t)[:, :2], table)
    x0 = bins.values[torch.tensor([[0, 16], [8, 3]])]
    result = sd.log_likelihood(model, x0, method="vlb", discrete=bins, variance=variance, noises=100, seed=0)
    draws = 2000
    repeated = x0.repeat_interleave(draws, 0)
    objective = VariationalBound(0.0, 1.0, variance, bins, stop_mean=False)
    bits = objective(model, repeated, {}, Draws(0, 0, 0, len(repeated))).reshape(2, draws)
    found = -(bits.mean(1) * 2 * math.log(2))
    expected = result.terms["diffusion"] + result.terms["decoder"]
    error = torch.hypot(bits.std(1) * 2 * math.log(2) / math.sqrt(draws), result.std_error)
    assert ((found - expected).abs() < 4.9 * error).all(), (found, expected, error)
    assert (error < 0.1 * expected.abs()).all()


def test_the_hybrid_loss_is_the_sum_of_both():
    model, x0, draws = sd.ScoreModel(_learned, TABLE), torch.randn(50, 2, dtype=F64), Draws(1, 2, 0, 50)
    simple, vlb, hybrid = (
        VariationalBound(s, v, stop_mean=False)(model, x0, {}, draws) for s, v in ((1, 1e-300), (0, 1), (1, 0.001))
    )
    torch.testing.assert_close(hybrid, simple + 0.001 * vlb, rtol=1e-12, atol=0)
    plain = sd.ScoreModel(lambda x, t: _learned(x, t)[:, :2], TABLE)
    t = sd.training.training_times(TABLE, draws.stratified(50))
    torch.testing.assert_close(simple, sd.loss(plain, x0, t=t, eps=draws.normals(x0)), rtol=1e-12, atol=0)


def test_timesteps_are_drawn_by_their_losses_without_bias():
    history = LossHistory(5, length=3)
    assert history.probabilities().tolist() == [0.2] * 5
    size = torch.tensor([4.0, 1.0, 0.5, 0.25, 2.0], dtype=F64)
    for _ in range(4):
        history.add(torch.arange(1.0, 6.0), size)
        history.settle()
    p = history.probabilities()
    torch.testing.assert_close(p, 0.999 * size / size.sum() + 0.001 / 5)
    u = (torch.arange(200_000, dtype=F64) + 0.5) / 200_000
    t, weight = history.draw(5, u)
    losses = size[(t - 1).long()]
    torch.testing.assert_close((weight * losses).mean(), size.mean(), rtol=1e-4, atol=0)
    assert (weight * losses).std() < 0.01 * losses.std()  # nearly every term is alike
    with pytest.raises(sd.Error, match="the history is of 5 timesteps"):
        history.draw(6, u)


def test_history_keeps_the_last_losses_of_all_processes_and_travels():
    history = LossHistory(2, length=2)
    for value in (1.0, 2.0, 3.0):
        history.add(torch.tensor([1.0]), torch.tensor([value]))
        history.settle(lambda mine: torch.cat([mine, mine + (mine.dtype == F64 and len(mine) == 1) * 1]))
    assert history.pending == []
    other = LossHistory(2, length=2)
    other.load_state_dict(history.state_dict())
    assert torch.equal(other.losses, history.losses)
    assert torch.equal(other.counts, history.counts)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"simple": -1}, "simple=-1"), ({"vlb": 0.0}, "vlb=0.0"), ({"variance": "lerned"}, "unknown variance"),
        ({"simple": 0.0}, "stop_mean=False"), ({"drop": 1.0}, "drop=1.0"),
    ],
)  # fmt: skip
def test_bounds_without_a_meaning_are_refused(fields, match):
    with pytest.raises(sd.Error, match=match):
        VariationalBound(**fields)
    with pytest.raises(sd.Error, match="give a process in steps"):
        VariationalBound()(sd.ScoreModel(_learned, sd.VP()), torch.ones(1, 2, dtype=F64), {}, Draws(0))
