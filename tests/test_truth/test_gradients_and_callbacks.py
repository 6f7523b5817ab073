"""Gradients through the border, networks that cut them, and callbacks that change the states."""

import pytest
import torch
from torch import Tensor

import sdediff as sd
from tests.test_truth.odd_networks import DIMS, PLAIN, halved, writes, writes_unseen

START = torch.randn(2, DIMS, generator=torch.Generator().manual_seed(3))
SOLVERS = list(sd.list_solvers())
MODEL = sd.ScoreModel(PLAIN, sd.VP())


def _gradient(net, solver: str) -> Tensor:
    x = START.clone().requires_grad_()
    sd.sample(sd.ScoreModel(net, sd.VP()), x=x, solver=solver, steps=3, grad=True).square().sum().backward()
    return x.grad


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "deis", "heun", "ancestral"])
def test_gradients_of_a_network_that_writes_are_those_of_the_plain_one(solver: str) -> None:
    assert torch.equal(_gradient(writes, solver), _gradient(halved, solver))


def test_a_prediction_is_differentiable_once_and_twice() -> None:
    x = START.clone().requires_grad_()
    for net in (writes, halved):
        (first,) = torch.autograd.grad(sd.ScoreModel(net, sd.VP())(x, 0.5).score.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        assert second.abs().max() > 0
    jacobian = torch.func.jacrev(lambda x: sd.ScoreModel(halved, sd.VP())(x[None], 0.5).eps[0])
    assert torch.func.vmap(jacobian)(START).shape == (2, DIMS, DIMS)


@pytest.mark.parametrize("cut", [torch.no_grad, torch.inference_mode])
def test_a_network_without_gradients_is_refused_where_they_are_asked_for(cut) -> None:
    @cut()
    def net(x: Tensor, t: Tensor) -> Tensor:
        return PLAIN(x, t)

    with pytest.raises(sd.ModelError, match=r"carries no gradient, as under torch.no_grad\(\)"):
        _gradient(net, "ddim")
    with pytest.raises(sd.ModelError, match="carries no gradient"):
        sd.sample(sd.ScoreModel(net, sd.VP()), x=START, solver="ddim", steps=3, grad=True)  # of the parameters
    right = sd.sample(MODEL, x=START, solver="ddim", steps=3)
    assert torch.equal(sd.sample(sd.ScoreModel(net, sd.VP()), x=START, solver="ddim", steps=3), right)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "heun"])
def test_a_constant_network_has_the_gradient_of_the_states_alone(solver: str) -> None:
    """The same as of a network that is constant and has a graph: 0 times x."""
    constants = (lambda x, t: torch.full_like(x, 0.5).detach(), lambda x, t: 0.5 + 0 * x)
    plain, with_graph = (_gradient(net, solver) for net in constants)
    assert torch.equal(plain, with_graph)
    assert plain.abs().min() > 0
    model = sd.ScoreModel(constants[0], sd.VP())
    x = START.clone().requires_grad_()
    assert sd.sample(model, x=x, solver="ddim", steps=3, grad=True, full=True).calls == 4
    with pytest.raises(sd.Error, match="nothing that the samples depend on requires a gradient"):
        sd.sample(model, x=START, solver="ddim", steps=3, grad=True)


def test_a_network_that_takes_a_gradient_inside_leaves_the_states_alone() -> None:
    def energy(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            return torch.autograd.grad(PLAIN(x.requires_grad_(), t).square().sum(), x)[0]

    seen = []
    sd.sample(sd.ScoreModel(energy, sd.VP()), x=START, solver="dpmpp_2m", steps=3, callback=seen.append)
    assert not START.requires_grad
    assert not any(state.x.requires_grad for state in seen)


def test_a_network_that_writes_later_on_is_refused() -> None:
    calls = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return PLAIN(x.div_(2) if len(calls) > 3 else x / 2, t)

    with pytest.raises(sd.ModelError, match=r"wrote into its input.*let it write into x.clone\(\)"):
        sd.sample(sd.ScoreModel(net, sd.VP()), x=START, solver="ddim", steps=6)


@pytest.mark.parametrize("view", ["data", "numpy"])
def test_a_network_that_writes_later_on_past_the_version_is_refused(view: str) -> None:
    calls = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        there = x.data if view == "data" else x.numpy()
        if len(calls) > 3:
            there *= 0.5
        return PLAIN(x, t)

    with pytest.raises(sd.ModelError, match=r"wrote into its input.*let it write into x.clone\(\)"):
        sd.sample(sd.ScoreModel(net, sd.VP()), x=START, solver="ddim", steps=6)


# What the gradient of a network's output is taken for.
OF_THE_NETWORK = {
    "a prediction": lambda model: model(START.clone().requires_grad_(), 0.5),
    "a run": lambda model: sd.sample(model, x=START.clone().requires_grad_(), steps=3, grad=True),
    **{
        kind: lambda model, kind=kind, more=more: sd.log_likelihood(model, START, trace=kind, **more)
        for kind, more in {"exact": {}, "hadamard": {}, "rademacher": {"method": "ode"}}.items()
    },
    "statistics": lambda model: sd.path_statistics(model, START, kappa=4),
}


@pytest.mark.parametrize("use", OF_THE_NETWORK)
def test_gradients_of_a_network_that_writes_past_autograd_are_refused(use: str) -> None:
    """Autograd takes its output for a function of the halved states, so that every derivative is twice too large."""
    with pytest.raises(sd.ModelError, match=r"past autograd.*let it write into x\.clone\(\)"):
        OF_THE_NETWORK[use](sd.ScoreModel(writes_unseen, sd.VP()))


def test_differences_see_what_a_network_writes_past_autograd() -> None:
    found, exact = (
        sd.log_likelihood(sd.ScoreModel(net, sd.VP()), START, autograd=False).log_prob
        for net in (writes_unseen, halved)
    )
    assert torch.equal(found, exact)


# Functions of states that keep no gradient of them, and the one way in which a likelihood does.
WITHOUT: dict = {
    **{
        str(options): lambda x, options=options: sd.log_likelihood(MODEL, x, **options)
        for options in ({}, {"method": "ode"}, {"method": "vlb", "steps": 3}, {"preset": "literature"})
    },
    "statistics": lambda x: sd.path_statistics(MODEL, x),
    "invert": lambda x: sd.inverse.invert(MODEL, x, steps=60),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_gradient_that_would_be_dropped_is_refused(name: str) -> None:
    with pytest.raises(sd.Error, match=r"requires a gradient, which .*write .*\.detach\(\)"):
        WITHOUT[name](START.clone().requires_grad_())
    with torch.no_grad():
        WITHOUT[name](START.clone().requires_grad_())


def test_a_likelihood_in_inference_mode_says_so() -> None:
    with torch.inference_mode():
        with pytest.raises(sd.Error, match=r"inference_mode.*records no gradients.*autograd=False"):
            sd.log_likelihood(MODEL, START)
        found = sd.log_likelihood(MODEL, START, autograd=False).log_prob
    assert torch.allclose(found, sd.log_likelihood(MODEL, START).log_prob, atol=1e-3)


def test_a_network_that_writes_into_its_condition_is_refused() -> None:
    model = sd.ScoreModel(lambda x, t, y: PLAIN(x + y.mul_(0.5), t), sd.VP())
    with pytest.raises(sd.ModelError, match="wrote into one of its conditions"):
        sd.sample(model, x=START, solver="ddim", steps=3, cond={"y": torch.ones(2, DIMS)})


CHANGES = {
    "x": lambda state: state.x.clamp_(-1, 1),
    "a part of x": lambda state: state.x[0].zero_(),
    "the output": lambda state: state.prediction and state.prediction.raw.zero_(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_callback_that_changes_the_states_is_refused(solver: str, change: str) -> None:
    with pytest.raises(ValueError, match=r"the callback changed the states in place.*map_prediction"):
        sd.sample(MODEL, x=START, solver=solver, steps=3, callback=CHANGES[change])


@pytest.mark.parametrize("inference", [False, True])
def test_a_callback_that_reads_is_not(inference: bool) -> None:
    right, seen = sd.sample(MODEL, x=START, steps=3), []
    with torch.inference_mode(inference):
        x = sd.sample(MODEL, x=START, steps=3, callback=lambda state: seen.append(state.x.clone().mul_(2)))
        assert torch.equal(x, right)
        assert len(seen) == 4
        if inference:
            with pytest.raises(ValueError, match="the callback changed the states"):
                sd.sample(MODEL, x=START, steps=3, callback=CHANGES["x"])
