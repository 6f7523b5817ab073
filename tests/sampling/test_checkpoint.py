"""`grad="checkpoint"`: gradients through a run whose steps are computed again, in less memory."""

from __future__ import annotations

import pytest
import torch

import sdediff as sd
from tests.solvers.equivalence import net

F64 = torch.float64
REGISTRY = sd.list_solvers()
# A range in which every solver starts and every step is small, so that the integrators that choose steps are quick.
RANGE = {"start": 0.6, "stop": 0.05, "steps": 4, "dtype": F64}


def _gradients(name, grad):
    """The sum of squares of a run's samples, with its gradients by x_T and by a weight of the network."""
    weight = torch.tensor(0.9, dtype=F64, requires_grad=True)
    model = sd.ScoreModel(lambda x, t: weight * net(x, t), sd.VP(beta_max=6.0))
    x = torch.linspace(-1, 1, 6, dtype=F64).reshape(2, 3).requires_grad_()
    value = sd.sample(model, x=x, solver=name, grad=grad, **RANGE).square().sum()
    return (value.detach(), *torch.autograd.grad(value, (x, weight)))


@pytest.mark.parametrize("name", [name for name, one in REGISTRY.items() if one.alone])
def test_gradients_are_autograds_to_rounding(name):
    for plain, again in zip(_gradients(name, True), _gradients(name, "checkpoint"), strict=True):
        assert plain.isfinite().all()
        torch.testing.assert_close(again, plain, rtol=1e-12, atol=1e-12)


def test_the_steps_activations_are_not_kept():
    """Bytes saved for the backward pass: of every step the states alone, and of one more the network's."""

    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, 512), torch.nn.Tanh(), torch.nn.Linear(512, 4))

        def forward(self, x, t):
            return self.layers(x)

    model = sd.ScoreModel(Wide(), sd.VP())

    def saved(grad, steps):
        seen = {}

        def keep(v):
            seen[v.untyped_storage().data_ptr()] = v.untyped_storage().nbytes(), v
            return v

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda v: v):
            sd.sample(model, (64, 4), solver="ddim", steps=steps, grad=grad)
        return sum(size for size, _ in seen.values())

    growth = {grad: (saved(grad, 40) - saved(grad, 20)) / 20 for grad in (True, "checkpoint")}
    assert growth[True] > 64 * 512 * 4, "a step keeps a hidden layer, 64 x 512 floats"
    assert growth["checkpoint"] < 20 * 64 * 4 * 4, "a step keeps a few states of 64 x 4 floats"


def test_a_run_with_densities_has_checkpointed_gradients():
    weight = torch.tensor(0.9, requires_grad=True)
    model = sd.ScoreModel(lambda x, t: weight * net(x, t), sd.VP())
    for grad in (True, "checkpoint"):
        run = sd.sample(model, (2, 3), solver="ancestral", steps=4, log_prob="steps", grad=grad)
        assert run.solver == sd.solver("ancestral")
        assert run.log_prob.shape == (4, 2)
        assert run.x.requires_grad


def test_other_words_are_refused():
    with pytest.raises(sd.Error, match="grad="):
        sd.sample(sd.ScoreModel(net, sd.VP()), (2, 3), grad="checkpoints")
