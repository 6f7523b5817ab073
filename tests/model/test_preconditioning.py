"""EDM's preconditioning, and Karras et al.'s of VP and VE."""

import math

import pytest
import torch

import sdediff as sd

F64 = torch.float64
EDM_TABLE = [
    (0.002, 0.999984000256, 0.00199998400019, 1.99998400019, -1.55365202461, 250004),
    (0.5, 0.5, 0.353553390593, 1.41421356237, -0.17328679514, 8),
    (1.0, 0.2, 0.4472135955, 0.894427191, 0.0, 5),
    (80.0, 3.90609741807e-5, 0.499990234661, 0.0124997558665, 1.09550665867, 4.00015625),
]


@pytest.mark.parametrize(("sigma", "skip", "out", "into", "noise", "weight"), EDM_TABLE)
@pytest.mark.parametrize("batch", [False, True], ids=["float", "tensor"])
def test_edms_preconditioning(sigma, skip, out, into, noise, weight, batch):
    seen = []

    def net(x, clock):
        seen.append((x, clock))
        return torch.full_like(x, 3.0)

    model = sd.ScoreModel(net, sd.EDM(), predicts="edm", sigma_data=0.5)
    x = torch.tensor([[2.0]], dtype=F64)
    said = model(x, torch.tensor([sigma], dtype=F64) if batch else sigma)
    assert seen[0][0].item() == pytest.approx(into * 2, rel=1e-10)
    assert seen[0][1].item() == pytest.approx(noise, rel=1e-10, abs=1e-14)
    assert said.x0.item() == pytest.approx(skip * 2 + out * 3, rel=1e-9)
    # The loss weight that belongs to the pair: 1 / c_out^2.
    assert 1 / float(said.pair("x0")[1]) ** 2 == pytest.approx(weight, rel=1e-9)


def test_edms_preconditioning_acts_on_x_over_alpha():
    # On a process with alpha < 1 the network sees c_in x/alpha at s = sigma/alpha.
    seen, sde = [], sd.VP()
    model = sd.ScoreModel(lambda x, c: seen.append((x, c)) or x, sde, predicts="edm", sigma_data=0.5)
    t, x = 0.37, torch.tensor([[1.3, -0.2]], dtype=F64)
    here = sd.level(sde, t)
    s = here.sigma / here.alpha
    root = math.sqrt(s**2 + 0.25)
    said = model(x, t)
    torch.testing.assert_close(seen[0][0], x / here.alpha / root, rtol=1e-12, atol=0)
    assert seen[0][1].item() == pytest.approx(math.log(s) / 4, rel=1e-12)
    expected = 0.25 / root**2 * x / here.alpha + s * 0.5 / root * (x / here.alpha / root)
    torch.testing.assert_close(said.x0, expected, rtol=1e-12, atol=0)


def test_karras_vp_and_ve_preconditioning_are_eps_networks():
    # VPPrecond: D = y - s F(y / sqrt(s^2 + 1), 999 sigma^-1(s)) on y = x/alpha; VEPrecond: D = x + s F(x, ln(s/2)).
    def net(x, clock):
        return torch.sin(x) + clock[:, None] / 1000

    x, t = torch.tensor([[0.7, -1.1]], dtype=F64), 0.6
    vp = sd.level(sd.VP(), t)
    said = sd.ScoreModel(net, sd.VP(), time=lambda here: 999 * here.time)(x, t)
    y, s = x / vp.alpha, vp.kappa
    torch.testing.assert_close(said.x0, y - s * net(y / math.sqrt(s**2 + 1), torch.tensor([999 * t], dtype=F64)))
    ve = sd.level(sd.VE(), t)
    said = sd.ScoreModel(lambda x, c: -net(x, c), sd.VE(), time=lambda here: math.log(here.sigma / 2))(x, t)
    torch.testing.assert_close(said.x0, x + ve.sigma * net(x, torch.tensor([math.log(ve.sigma / 2)], dtype=F64)))
