"""What a run has made is freed with what holds it: compiled networks with their sampler, buffers with their run."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

import sdediff as sd
from tests.test_truth.odd_networks import DIMS, PLAIN, Plain


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[nn.Module]]:
    """What torch.compile has made, with a backend that runs the graph as it is."""
    made: list[weakref.ref[nn.Module]] = []
    plain = torch.compile

    def backend(graph, examples):
        made.append(weakref.ref(graph))
        return lambda *args: graph.forward(*args)

    monkeypatch.setattr(torch, "compile", lambda net: plain(net, backend=backend))
    return made


def test_a_compiled_network_lives_as_long_as_its_sampler(graphs: list[weakref.ref[nn.Module]]) -> None:
    model = sd.ScoreModel(PLAIN, sd.VP())
    sampler = sd.Sampler(model, solver="ddim", steps=3, compile=True)
    right = sd.sample(model, (2, DIMS), solver="ddim", steps=3)
    for _ in range(2):
        torch.testing.assert_close(sampler((2, DIMS)), right)
    assert len(graphs) == 1
    gc.collect()
    assert graphs[0]() is not None
    del sampler
    gc.collect()
    assert graphs[0]() is None


def test_sample_frees_what_it_compiled(graphs: list[weakref.ref[nn.Module]]) -> None:
    net = Plain().eval()
    for _ in range(12):  # more than what is compiled of one code before torch gives up
        sd.sample(sd.ScoreModel(net, sd.VP()), (2, DIMS), solver="ddim", steps=2, compile=True)
    gc.collect()
    assert len(graphs) == 12
    assert not [g for g in graphs if g() is not None]
    alive = weakref.ref(net)
    del net
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("solver", ["dpmpp_2m", "heun", "ancestral", "ode", "restart"])
def test_no_state_outlives_its_run(solver: str) -> None:
    seen: list[weakref.ref[Tensor]] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        output = 0.3 * x
        seen.extend(map(weakref.ref, (x, output, t)))
        return output

    result = sd.sample(sd.ScoreModel(net, sd.VP()), (2, DIMS), solver=solver, steps=4)
    gc.collect()
    assert not [v for v in seen if v() is not None and v() is not result]
