"""The learned process: a rising gamma whose ends stay, its slopes, and its use as any other process."""

import math

import pytest
import torch

import sdediff as sd
from sdediff.sde import first_gamma

F64 = torch.float64
T = torch.linspace(0, 1, 101, dtype=F64)


def shaken(seed=0, **fields):
    """A learned process far from its first schedule."""
    process, generator = sd.LearnedVP(-6.0, 4.0, width=16, seed=seed, **fields), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in process.named_parameters():
            if name != "ends":
                p.add_(5 * torch.randn(p.shape, generator=generator, dtype=F64))
        process.outer.mul_(20)
    return process


@pytest.mark.parametrize("seed", range(5))
def test_gamma_rises_and_its_ends_stay(seed):
    process = shaken(seed)
    gamma = process.gamma(T).detach()
    assert (gamma.diff() > 0).all()
    torch.testing.assert_close(gamma[[0, -1]], torch.tensor([-6.0, 4.0], dtype=F64), rtol=1e-14, atol=0)
    assert (gamma - (-6 + 10 * T)).abs().max() > 0.3  # it is bent
    torch.testing.assert_close(process.alpha(T) ** 2 + process.sigma(T) ** 2, torch.ones_like(T))
    torch.testing.assert_close(process.lam(T), -process.gamma(T) / 2, rtol=1e-12, atol=1e-13)


def test_slopes_are_the_derivatives_and_keep_gradients():
    process = shaken()
    _, slope = process.rise(T)
    at = T.clone().requires_grad_()
    (by_hand,) = torch.autograd.grad(process.rise(at)[0].sum(), at)
    torch.testing.assert_close(slope.detach(), by_hand, rtol=1e-10, atol=1e-12)
    alpha_dot, _ = process.slopes(T[1:-1])
    sigma2 = process.sigma(T[1:-1]) ** 2
    torch.testing.assert_close(alpha_dot, -process.alpha(T[1:-1]) * sigma2 * 10 * slope[1:-1] / 2)
    (gradient,) = torch.autograd.grad(slope.square().sum(), process.inner)
    assert gradient.abs().max() > 0


def test_the_first_schedule_is_nearly_linear():
    process = sd.LearnedVP(-13.3, 5.0, width=1024)
    assert (process.gamma(T) - (-13.3 + 18.3 * T)).abs().max() < 0.1


def test_it_conforms_as_any_process():
    for check in sd.testing.check_sde(shaken()):
        assert check.detail


def test_it_is_sampled_and_scored_as_any_process():
    process = shaken()
    target = sd.target("ring")
    model = target.model(process)
    x = sd.sample(model, (1000, 2), solver="dpmpp_2m", steps=20, dtype=F64)
    vp = sd.sample(target.model(sd.VP()), (1000, 2), solver="dpmpp_2m", steps=20, dtype=F64)
    assert sd.metrics.energy_distance(x, vp).value < 0.02
    data = target.sample(4, seed=1).double()
    found = sd.log_likelihood(model, data, end="heat")
    torch.testing.assert_close(found.log_prob, target.log_prob(data), rtol=0.0, atol=0.02)
    times = process.t_of_lam(process.lam(T).detach())
    torch.testing.assert_close(times, T, rtol=1e-9, atol=1e-12)


def test_its_folder_holds_the_schedule(tmp_path):
    process = shaken(learn_ends=True)
    sd.save(sd.ScoreModel(sd.nets.MLP(2, 8, 1), process, time="lam"), tmp_path / "model")
    again = sd.load(tmp_path / "model").sde
    assert torch.equal(again.gamma(T), process.gamma(T))
    assert repr(again) == repr(process)
    assert not any(p.requires_grad for p in again.parameters())


def test_first_gamma_is_half_a_bin():
    assert first_gamma(256) == pytest.approx(-13.3, abs=1e-3)
    assert first_gamma(17) == pytest.approx(-7.8761, abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"gamma0": 5.0}, "gamma0 < gamma1"), ({"width": 0}, "width=0"), ({"learn_ends": 1}, "learn_ends=1"),
        ({"gamma1": math.nan}, "gamma1=nan"), ({"weights": {"slope": [1.0]}}, "weights 'inner'"),
    ],
)  # fmt: skip
def test_schedules_that_are_none_are_refused(fields, match):
    with pytest.raises(sd.Error, match=match):
        sd.LearnedVP(**fields)
