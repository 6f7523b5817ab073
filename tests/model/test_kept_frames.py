"""What a model keeps between runs."""

import pytest
import torch
from torch import nn

import sdediff as sd

F64 = torch.float64


@pytest.mark.parametrize("write", [lambda t: t.mul_(10.0), lambda t: t.data.mul_(10.0), lambda t: t.numpy().fill(9.0)])
def test_a_network_that_writes_into_its_clock_gets_a_new_one_in_the_next_run(write):
    def net(x, t):
        write(t)
        return x * t.reshape(-1, 1)

    model = sd.ScoreModel(net, sd.VP())
    once, again = (sd.sample(model, (2, 3), solver="ddim", steps=3, dtype=F64) for _ in range(2))
    assert torch.equal(once, again)


def test_a_first_run_in_inference_mode_leaves_later_ones_their_gradients():
    net, sde = nn.Linear(3, 3).to(F64), sd.VP(beta_max=17.0)
    model = sd.ScoreModel(lambda x, t: net(x) * t[:, None], sde)
    with torch.inference_mode():
        first = sd.sample(model, (2, 3), solver="adams", steps=3, dtype=F64)
    second = sd.sample(model, (2, 3), solver="adams", steps=3, dtype=F64, grad=True)
    second.sum().backward()
    assert torch.equal(first, second.detach())
    assert net.weight.grad.abs().sum() > 0


def test_a_grid_first_asked_for_in_inference_mode_has_its_slopes():
    sde = sd.VP(beta_max=16.5)
    with torch.inference_mode():
        inside = sd.levels(sde, [0.8, 0.2])
    assert sd.levels(sde, [0.8, 0.2]) is inside
    assert inside[0].g2 == pytest.approx(0.1 + 0.8 * 16.4)
    assert inside[1].alpha_dot < 0


def test_models_that_read_other_clocks_share_no_frames():
    seen = []

    def net(x, t):
        seen.append(t.tolist())
        return x

    for size, options in ((2, {}), (3, {}), (2, {"time": "lam"}), (2, {"time": lambda v: 5.0})):
        sd.sample(sd.ScoreModel(net, sd.VP(), **options), (size, 1), solver="ddim", steps=1, denoise=False, dtype=F64)
    assert seen == [[1.0] * 2, [1.0] * 3, [sd.VP().lam(1.0).item()] * 2, [5.0] * 2]
