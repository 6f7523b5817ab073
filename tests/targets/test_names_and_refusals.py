"""Problems by name, and what does not fit."""

import math

import pytest
import torch

from sdediff.model.prediction import ModelError
from sdediff.sde.base import SDE
from sdediff.sde.processes import VP
from sdediff.targets import (
    Mixture,
    gaussian,
    low_rank_mixture,
    mixture,
    moons,
    problem,
    ring,
    target_m,
)


def test_low_rank_problems_have_the_shapes_and_widths_they_state():
    for name, shape, rank in (("gmm64", (1, 8, 8), 6), ("gmm768", (3, 16, 16), 16)):
        m = problem(name)
        assert (m.shape, m.variances.shape) == (shape, (6, rank))
        torch.testing.assert_close(m.variances.sum(1) / m.dim, torch.full((6,), 0.16).double())
        assert m.floor.tolist() == pytest.approx([0.15**2] * 6)
    assert torch.equal(problem("gmm64").means, problem("gmm64").means)
    assert not torch.equal(low_rank_mixture(8, 2, 1, seed=1).means, low_rank_mixture(8, 2, 1).means)
    assert moons().means.mean(0).abs().max() < 1e-12
    assert ring(unequal=True).weights.tolist() == pytest.approx([k / 36 for k in range(1, 9)])


def test_unknown_names_answer_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'gmm"):
        problem("gmm65")


class Wiggly(SDE):
    def drift(self, x, t):
        return -x

    def diffusion(self, t):
        return torch.ones(())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mixture([0.0, 1.0], 1.0), r"\(K, D\)"),
        (lambda: mixture([[0.0], [1.0]], [1.0, 2.0, 3.0]), "stds must be"),
        (lambda: mixture([[0.0], [1.0]], 1.0, [0.5, 0.6]), "sum to 1"),
        (lambda: mixture([[0.0], [1.0]], 1.0, [1.5, -0.5]), "positive weights"),
        (lambda: mixture([[0.0], [1.0]], 1.0, [1.0]), "2 positive weights"),
        (lambda: mixture([[0.0], [math.nan]], 1.0), "finite"),
        (lambda: mixture([[0.0], [1.0]], [1.0, 0.0]), "positive and finite"),
        (lambda: mixture([[0.0, 1.0]], 1.0, shape=(3,)), "have 3 numbers"),
        (lambda: gaussian([0.0, 0.0]), "exactly one"),
        (lambda: gaussian([0.0, 0.0], cov=[[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        (lambda: gaussian([0.0, 0.0], cov=[[1.0, 2.0], [2.0, 1.0]]), "positive and finite"),
        (lambda: gaussian([0.0, 0.0], std=[1.0, 1.0, 1.0]), r"variances must have the shape \(1, 2\)"),
        (lambda: low_rank_mixture(4, 2, 5), "rank <= dim"),
        (lambda: low_rank_mixture(4, 2, 2, floor=0.0), "floors must be positive"),
        (lambda: Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 1), torch.ones(1, 2, 1)), "come together"),
        (
            lambda: Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 1), torch.ones(1, 2, 1), torch.ones(1)),
            "orthonormal",
        ),
        (lambda: ring(0), "at least one"),
        (lambda: moons(1), "at least two"),
        (lambda: target_m().sample(0), "n >= 1"),
        (lambda: target_m().sample(2, seed=-1), "seed"),
        (lambda: target_m().sample(2, index=[1]), "index names"),
        (lambda: target_m().log_prob(torch.zeros(2, 3)), "needed floating-point states"),
        (lambda: target_m().log_prob(torch.zeros(2, 2), VP()), "together"),
        (lambda: target_m().score(torch.zeros(3, 2), VP(), torch.tensor([0.1, 0.2])), "one time or one a sample"),
        (lambda: target_m().score(torch.zeros(3, 2), Wiggly(), 0.5), "alpha and sigma"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_process_without_alpha_has_no_exact_model():
    with pytest.raises(ModelError, match="alpha and sigma"):
        target_m().model(Wiggly())
