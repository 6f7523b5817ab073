"""Networks whose output carries no gradient: refused where it changes with x, right where it is a constant."""

import math

import pytest
import torch

import sdediff as sd


def gaussian(predicts):
    """Standard normal data under VP: eps = sigma x, x0 = alpha x, score = -x, v = 0."""
    sde = sd.VP()

    def net(x, t):
        alpha, sigma = (f(t).to(x).reshape(-1, 1) for f in (sde.alpha, sde.sigma))
        return {"eps": sigma * x, "x0": alpha * x, "score": -x}[predicts]

    return sde, net


def _states():
    return torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", ["two_pass", "ode"])
@pytest.mark.parametrize("predicts", ["eps", "x0", "score"])
@pytest.mark.parametrize("cut", ["detach", "numpy", "parameter"])
def test_an_output_without_its_gradient_is_refused(method, predicts, cut):
    sde, net = gaussian(predicts)
    weight = torch.ones(1, requires_grad=True)
    cuts = {
        "detach": lambda x, t: net(x.detach(), t),
        "numpy": lambda x, t: torch.from_numpy(net(x.detach(), t).numpy()),
        "parameter": lambda x, t: weight * net(x.detach(), t),  # has a graph, but not to x
    }
    model, x = sd.ScoreModel(cuts[cut], sde, predicts=predicts), _states()
    with pytest.raises(sd.Error, match="carries no gradient to it"):
        sd.log_likelihood(model, x, method=method, trace="exact")
    if cut != "parameter":
        found = sd.log_likelihood(model, x, trace="exact", autograd=False, rtol=1e-5, atol=1e-5).log_prob
        exact = -0.5 * x.square().sum(1) - math.log(2 * math.pi)
        assert (found - exact).abs().max() < 1e-3


@pytest.mark.parametrize("method", ["two_pass", "ode"])
def test_a_constant_output_has_no_divergence(method):
    model = sd.ScoreModel(lambda x, t: torch.zeros_like(x), sd.VP(), predicts="v")  # v = 0: standard normal data
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = sd.log_likelihood(model, x, method=method, trace="exact", rtol=1e-6, atol=1e-6)
    exact = -0.5 * x.square().sum(1) - 1.5 * math.log(2 * math.pi)
    # The ends, where sigma(t0) and alpha(T) are not 0, leave 1e-4; two passes report 2e-4 at most.
    bound = found.solver_error if method == "two_pass" else torch.tensor(2.5e-4)
    assert ((found.log_prob - exact).abs() <= bound).all()
    assert bound.max() < 3e-4
