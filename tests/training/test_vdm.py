"""The loss of variational diffusion models: invariance to the schedule, steps, and the two gradients of gamma."""

import math

import pytest
import torch

import sdediff as sd
from sdediff.likelihood import Discrete
from sdediff.training import Draws, VariationalDiffusion
from tests.sde.test_learned import shaken

F64 = torch.float64
C = 0.25


def gaussian(process):
    """The exact network of N(0, C)."""

    def net(x, lam):
        alpha2, sigma = torch.sigmoid(2 * lam)[:, None], torch.sigmoid(-2 * lam).sqrt()[:, None]
        return sigma * x / (alpha2 * C + sigma**2)

    return sd.ScoreModel(net, process, time="lam")


def batch(n, seed=0):
    return math.sqrt(C) * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_the_continuous_loss_is_the_same_for_every_schedule():
    # E|eps - eps_hat|^2 = alpha^2 C/(alpha^2 C + sigma^2) a dimension, integrated over lam in closed form.
    expected = (math.log1p(C * math.exp(6.0)) - math.log1p(C * math.exp(-4.0))) / 2 / math.log(2)
    n = 20_000
    for process in (sd.LearnedVP(-6.0, 4.0), shaken(0), shaken(1)):
        losses = VariationalDiffusion()(gaussian(process), batch(n), {}, Draws(1, 0, 0, n)).detach()
        assert losses.mean().item() == pytest.approx(expected, abs=4.9 * losses.std().item() / math.sqrt(n))


def test_the_loss_of_n_steps_falls_to_the_continuous_one_at_order_one():
    process, n = sd.LearnedVP(-6.0, 4.0), 60_000
    expected = (math.log1p(C * math.exp(6.0)) - math.log1p(C * math.exp(-4.0))) / 2 / math.log(2)
    excess = []
    for steps in (16, 64):
        losses = VariationalDiffusion(steps)(gaussian(process), batch(n), {}, Draws(1, 0, 0, n)).detach()
        excess.append(losses.mean().item() - expected)
    assert excess[0] > excess[1] > 0
    assert math.log(excess[0] / excess[1]) / math.log(4) == pytest.approx(1.0, abs=0.15)


class _Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(0.4, dtype=F64))

    def forward(self, x, lam):
        return self.w * x * (1 + 0.1 * lam[:, None])


@pytest.mark.parametrize("steps", [None, 7])
def test_the_network_follows_the_loss_and_the_schedule_its_square(steps):
    process, net, x0, draws = shaken(2, learn_ends=True), _Net(), batch(64), Draws(3, 1, 0, 64)
    model = sd.ScoreModel(net, process, time="lam")
    inner = [p for name, p in process.named_parameters() if name != "ends"]
    plain = VariationalDiffusion(steps, least_variance=False)(model, x0, {}, draws)
    of_loss = torch.autograd.grad(plain.mean(), [net.w, process.ends], retain_graph=True)
    of_square = torch.autograd.grad(plain.square().mean(), inner)
    split = VariationalDiffusion(steps)(model, x0, {}, draws)
    torch.testing.assert_close(split, plain, rtol=0, atol=0)
    found = torch.autograd.grad(split.mean(), [net.w, process.ends, *inner])
    for one, two in zip(found, (*of_loss, *of_square), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-14)
    assert of_square[0].abs().max() > 0


def test_the_schedule_learns_to_lower_the_variance_and_leaves_the_mean():
    process, n = sd.LearnedVP(-6.0, 4.0, width=16), 2048
    objective, model = VariationalDiffusion(), gaussian(process)

    def spread():
        losses = objective(model, batch(20_000, 5), {}, Draws(9, 0, 0, 20_000)).detach()
        return losses.mean().item(), losses.std().item()

    before = spread()
    optimiser = torch.optim.Adam([p for name, p in process.named_parameters() if name != "ends"], lr=0.1)
    for update in range(60):
        optimiser.zero_grad()
        objective(model, batch(n, update), {}, Draws(0, update, 0, n)).mean().backward()
        optimiser.step()
    after = spread()
    assert after[1] ** 2 < 0.9 * before[1] ** 2
    assert after[0] == pytest.approx(before[0], abs=4.9 * math.hypot(before[1], after[1]) / math.sqrt(20_000))


def test_prior_and_decoder_are_those_of_the_likelihood():
    process, bins, n = sd.LearnedVP(-7.8761, 3.0, learn_ends=True), Discrete(17), 4000
    x0 = bins.values[torch.tensor([[3, 16]])].expand(n, 2).contiguous()
    model, draws = gaussian(process), Draws(0, 0, 0, n)
    whole, diffusion = (VariationalDiffusion(discrete=d)(model, x0, {}, draws) for d in (bins, None))
    ends = (whole - diffusion).detach() * 2 * math.log(2)
    result = sd.log_likelihood(model, x0[:1], method="continuous_vlb", discrete=bins, prior="unit", noises=100, steps=2)
    expected = -(result.terms["prior"] + result.terms["decoder"]).item()
    assert ends.mean().item() == pytest.approx(expected, abs=4.9 * 1.5 * ends.std().item() / math.sqrt(100))
    (gradient,) = torch.autograd.grad(whole.mean(), process.ends)
    assert gradient.abs().min() > 0


def test_what_is_no_learned_process_is_refused():
    with pytest.raises(sd.Error, match="give ScoreModel"):
        VariationalDiffusion()(sd.ScoreModel(_Net(), sd.VP(), time="lam"), batch(4), {}, Draws(0))
    with pytest.raises(sd.Error, match="steps=0"):
        VariationalDiffusion(0)
