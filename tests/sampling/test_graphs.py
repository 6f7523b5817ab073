"""The recorded loop: what surrounds a CUDA graph, with a graph that runs its body again; on a GPU the real one."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from sdediff.sampling.api.cuda_graph import Drawn, Recorded, replayed
from sdediff.sampling.api.run import prepare

import sdediff as sd
from sdediff import graphs, tensors
from sdediff.solvers import model_statistics


class Again:
    """Stands in for a CUDA graph: the same kernels on the same memory, new results in the old memory."""

    made = 0

    def __init__(self) -> None:
        Again.made += 1

    def record(self, body: Callable[[], None]) -> None:
        self.body = body
        body()

    def replay(self) -> None:
        self.body()


def _model() -> sd.ScoreModel:
    net = torch.nn.Linear(4, 4)
    torch.nn.init.eye_(net.weight)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.inner(x)) * (1 + t[:, None])

    return sd.ScoreModel(Net().eval(), sd.VP())


@pytest.mark.parametrize("noise", ["counter", "brownian", "stream"])
@pytest.mark.parametrize("solver", ["ddim", "ancestral", "dpmpp_2m", "unipc", "predictor_corrector", "heun"])
@torch.no_grad()
def test_a_replay_is_the_eager_run_for_every_seed_and_start(solver: str, noise: str) -> None:
    model, before = _model(), Again.made
    for seed in (0, 1, 2):
        options = {"solver": solver, "steps": 6, "seed": seed, "noise": noise}
        found = replayed(prepare(model, (5, 4), **options), model.net, Again)
        torch.testing.assert_close(found, sd.sample(model, (5, 4), **options), rtol=0, atol=0)
    assert Again.made == before + 1


@torch.no_grad()
def test_other_settings_record_anew_and_results_are_not_shared_memory() -> None:
    model, before = _model(), Again.made
    first = replayed(prepare(model, (5, 4), solver="ancestral", steps=6), model.net, Again)
    kept = first.clone()
    replayed(prepare(model, (5, 4), solver="ancestral", steps=6, seed=1), model.net, Again)
    assert torch.equal(first, kept)
    replayed(prepare(model, (5, 4), solver="ancestral", steps=7), model.net, Again)
    replayed(prepare(model, (3, 4), solver="ancestral", steps=6), model.net, Again)
    assert Again.made == before + 3


@torch.no_grad()
def test_what_kernels_read_lives_as_long_as_the_recorded_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers a dimension are looked up where there is room for few: a recorded loop holds on to its own."""
    monkeypatch.setattr(tensors, "ARRAYS", tensors._Lookup(3000))
    monkeypatch.setattr(graphs, "ARRAYS", tensors.ARRAYS)
    data = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    model = replace(_model(), stats=sd.statistics(data))
    options = {"x": data[:5], "solver": sd.solver("angle", scale="dims"), "denoise": False}
    recorded = Recorded(prepare(model, steps=12, **options), Again())
    moves = [value[0] for value in recorded.arrays if isinstance(value, tuple)]
    read = [weakref.ref(t) for move in moves for t in move._columns.like(data)]
    del moves
    assert len(read) >= 12
    sd.sample(model, steps=25, **options)
    assert tensors.ARRAYS._left >= 0
    assert all(t() is not None for t in read)
    del recorded
    sd.sample(model, steps=26, **options)
    gc.collect()
    assert all(t() is None for t in read)


def test_drawn_noise_keeps_its_memory() -> None:
    level = sd.levels(sd.VP(), [0.5, 0.4])
    like = torch.zeros(3, 2)
    noise = Drawn(source=sd.Counter(0))
    z, other = noise(*level, like), noise.shifted()(*level, like)
    assert not torch.equal(z, other)
    where = z.data_ptr()
    noise.refill(sd.Counter(7))
    assert noise(*level, like).data_ptr() == where
    assert torch.equal(noise(*level, like), sd.Counter(7)(*level, like))
    assert torch.equal(noise.shifted()(*level, like), sd.Counter(7).shifted()(*level, like))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("solver", ["ddim", "ancestral", "dpmpp_2m"])
def test_a_cuda_graph_gives_the_eager_samples(solver: str) -> None:
    model = _model()
    model.net.cuda()
    for seed in (0, 1):
        options = {"solver": solver, "steps": 6, "seed": seed}
        eager = sd.sample(model, (5, 4), **options)
        torch.testing.assert_close(sd.sample(model, (5, 4), compile=True, **options), eager, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["angle", "dpm_solver_v3"])
def test_numbers_a_dimension_on_a_gpu_are_those_of_the_cpu(name: str, compiled: bool) -> None:
    data = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    model = replace(_model(), stats=sd.statistics(data))
    measured = {"scale": "dims"} if name == "angle" else {"statistics": model_statistics(model, data, knots=8)}
    options = {"solver": sd.solver(name, **measured), "steps": 6}
    there = sd.sample(model, x=data[:5], **options)
    model.net.cuda()
    here = sd.sample(model, x=data[:5].cuda(), compile=compiled, **options)
    torch.testing.assert_close(here.cpu(), there, rtol=1e-4, atol=1e-4)
