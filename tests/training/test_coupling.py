"""Optimal-transport coupling: pairs, the golden Gaussian case, and the mark that refuses a score.

Data N(0, .5^2) and noise N(0, 1) paired in order: eps = 2 x0, x_t = (1 + t) x0 and u = x_t/(1 + t).
"""

import pytest
import torch

import sdediff as sd
from sdediff.training import Draws, Objective
from sdediff.training.coupling import transported

F64 = torch.float64
FLOW = sd.RectifiedFlow()


def velocity(x, t):
    return x / (1 + t[:, None])


MARKED = sd.ScoreModel(velocity, FLOW, predicts="velocity", velocity_only=True)
PLAIN = sd.ScoreModel(velocity, FLOW, predicts="velocity")


def test_pairs_have_the_least_sum_of_squares():
    x0, eps = (torch.randn(50, 1, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    found = transported(x0, eps)
    assert torch.equal(found[x0.flatten().argsort()], eps.sort(0).values)
    x0, eps = (torch.randn(40, 2, 2, generator=torch.Generator().manual_seed(i)) for i in (2, 3))
    found = transported(x0, eps)
    assert torch.equal(found.flatten(1).sort(0).values, eps.flatten(1).sort(0).values)
    assert (found - x0).square().sum() < (eps - x0).square().sum()


def test_the_loss_is_least_at_the_coupled_velocity():
    x0 = 0.5 * torch.randn(2000, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    coupled, independent = Objective("velocity", coupling="ot"), Objective("velocity")
    assert coupled(MARKED, x0, {}, Draws(0, 0, 0, 2000)).mean() < 0.005
    assert independent(PLAIN, x0, {}, Draws(0, 0, 0, 2000)).mean() > 0.3


def test_its_converted_score_would_be_wrong_by_half():
    x = torch.tensor([[1.0]], dtype=F64)
    assert PLAIN(x, 0.5).score.item() == pytest.approx(-2.6667, abs=1e-4)
    variance = (1.5 * 0.5) ** 2
    assert -1 / variance == pytest.approx(-1.7778, abs=1e-4)
    with pytest.raises(sd.ModelError, match="marked velocity_only"):
        MARKED(x, 0.5).score  # noqa: B018
    with pytest.raises(sd.ModelError, match="marked velocity_only"):
        MARKED(x, 0.5).mix(1.0, score=0.5)
    assert MARKED(x, 0.5).velocity.item() == PLAIN(x, 0.5).velocity.item()


@pytest.mark.parametrize("solver", ["dpmpp_2m", "heun", "ddim", "unipc", "rk4", "ode"])
def test_solvers_of_the_flow_serve(solver):
    x = torch.randn(500, 1, generator=torch.Generator().manual_seed(1), dtype=F64)
    options = {} if solver == "ode" else {"steps": 60}
    found = sd.sample(MARKED, x=x, solver=solver, **options)
    torch.testing.assert_close(found, x / 2, rtol=0.02, atol=1e-3)


REFUSED = {
    "reverse SDE": lambda: sd.sample(MARKED, (2, 1), solver="euler_maruyama", steps=5),
    "ancestral": lambda: sd.sample(MARKED, (2, 1), solver="ancestral", steps=5),
    "Langevin": lambda: sd.sample(MARKED, (2, 1), solver="annealed_langevin", steps=5),
    "predictor-corrector": lambda: sd.sample(MARKED, (2, 1), solver="predictor_corrector", steps=5),
    "churn": lambda: sd.sample(MARKED, (2, 1), solver=sd.solver("edm", s_churn=1.0), steps=5),
    "clipping": lambda: sd.guidance.clip(MARKED),
    "guidance": lambda: sd.guidance.map_prediction(MARKED, lambda prediction, model: prediction),
    "two-pass likelihood": lambda: sd.log_likelihood(MARKED, torch.ones(2, 1)),
    "bound": lambda: sd.log_likelihood(MARKED, torch.ones(2, 1), method="continuous_vlb"),
    "samples with log p": lambda: sd.sample_with_log_prob(MARKED, (2, 1)),
    "path statistics": lambda: sd.path_statistics(MARKED, torch.ones(2, 1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_a_score_refuses(name):
    with pytest.raises(sd.Error, match="marked velocity_only"):
        REFUSED[name]()


def test_the_likelihood_of_its_flow_is_right():
    # The flow starts just below T, where alpha = 0: what is left of the data there is within the tolerance.
    x = torch.tensor([[0.3], [-0.9]], dtype=F64)
    found = sd.log_likelihood(MARKED, x, method="ode", end="t0", trace="exact", t0=1e-5)
    expected = torch.distributions.Normal(0.0, 0.5).log_prob(x[:, 0])
    torch.testing.assert_close(found.log_prob, expected, rtol=0, atol=3e-3)


def test_the_mark_is_kept_in_the_folder(tmp_path):
    model = sd.ScoreModel(sd.nets.MLP(1, 8, 1), FLOW, predicts="velocity", velocity_only=True)
    sd.save(model, tmp_path / "flow")
    assert sd.load(tmp_path / "flow").velocity_only
    assert "velocity_only=True" in repr(model)
    assert not sd.load(sd.save(sd.ScoreModel(sd.nets.MLP(1, 8, 1), FLOW), tmp_path / "plain")).velocity_only


def test_marks_and_couplings_fit_together():
    x0 = torch.ones(4, 1, dtype=F64)
    with pytest.raises(sd.ModelError, match="velocity_only=True\\)"):
        Objective(coupling="ot")(PLAIN, x0, {}, Draws(0))
    with pytest.raises(sd.ModelError, match='it is for "velocity"'):
        sd.ScoreModel(velocity, FLOW, velocity_only=True)
    with pytest.raises(sd.Error, match="unknown coupling"):
        Objective(coupling="sinkhorn")
