"""The recorded loop: what surrounds a CUDA graph, with a graph that runs its body again; on a GPU the real one."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff.noise import counter
from sdediff.sampling.cuda_graph import Drawn
from sdediff.solvers.v3_statistics import model_statistics


class Again:
    """Stands in for a CUDA graph: the same kernels on the same memory, new results in the old memory."""

    device = "cpu"
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

        def forward(self, x: torch.Tensor, t: torch.Tensor, shift: Any = 0.0) -> torch.Tensor:
            return torch.tanh(self.inner(x)) * (1 + t[:, None]) + shift

    return sd.ScoreModel(Net().eval(), sd.VP())


def _replayed(sampler: sd.Sampler, shape: tuple[int, ...], **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return sampler.replayed(sampler.run(shape, **options))


@pytest.mark.parametrize("noise", ["counter", "brownian", "stream"])
@pytest.mark.parametrize("solver", ["ddim", "ancestral", "dpmpp_2m", "unipc", "predictor_corrector", "heun"])
def test_a_replay_is_the_eager_run_for_every_seed_and_start(solver: str, noise: str) -> None:
    model, before = _model(), Again.made
    options = {"solver": solver, "steps": 6, "noise": noise}
    sampler = sd.Sampler(model, graph=Again, **options)
    for seed in (0, 1, 2):
        found = _replayed(sampler, (5, 4), seed=seed)
        assert torch.equal(found, sd.sample(model, (5, 4), seed=seed, **options))
    assert Again.made == before + 1


def test_other_states_and_conditions_record_anew_and_results_share_no_memory() -> None:
    model, before = _model(), Again.made
    sampler = sd.Sampler(model, graph=Again, solver="ancestral", steps=6)
    first = _replayed(sampler, (5, 4))
    kept = first.clone()
    _replayed(sampler, (5, 4), seed=1)
    assert torch.equal(first, kept)
    assert Again.made == before + 1
    _replayed(sampler, (3, 4))
    assert Again.made == before + 2
    shift, other = torch.tensor(0.5), torch.tensor(-0.5)
    for cond, count in ((shift, 3), (shift, 3), (other, 4)):
        found = _replayed(sampler, (5, 4), cond={"shift": cond})
        assert torch.equal(found, sd.sample(model, (5, 4), solver="ancestral", steps=6, cond={"shift": cond}))
        assert Again.made == before + count


def test_nothing_is_recorded_beyond_its_sampler() -> None:
    model, before = _model(), Again.made
    for _ in range(2):
        _replayed(sd.Sampler(model, graph=Again, solver="ddim", steps=3), (5, 4))
    assert Again.made == before + 2


def test_what_kernels_read_lives_as_long_as_the_sampler() -> None:
    """Clocks are made outside of the graph, whose kernels point into them."""
    read: list[weakref.ref[torch.Tensor]] = []
    plain = _model()

    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        read.append(weakref.ref(t))
        return plain.net(x, t)

    sampler = sd.Sampler(replace(plain, net=net), graph=Again, solver="ddim", steps=5)
    _replayed(sampler, (5, 4))
    _replayed(sampler, (3, 4))
    sampler((5, 4))
    del read[24:]  # the run that was not recorded
    gc.collect()
    assert len(read) == 24  # two recordings, each one pass for the noise and one for the graph
    del read[18], read[0]  # the first evaluations, of copies, come before each recording
    assert all(t() is not None for t in read)
    del sampler
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


def _recording(model: sd.ScoreModel, **options: Any) -> sd.Sampler:
    """A sampler that records its loops, around the network as it is."""
    sampler = sd.Sampler(model, graph=Again, **options)
    sampler.compile = True
    return sampler


def test_a_solver_with_noise_of_its_own_takes_the_plain_loop() -> None:
    """`sde` makes its Brownian path from the seed, of which a recorded loop has none: every seed gave path 0."""
    model, before = _model(), Again.made
    sampler = _recording(model, solver="sde", steps=3)
    for seed in (0, 5):
        assert torch.equal(sampler((5, 4), seed=seed), sd.sample(model, (5, 4), seed=seed, solver="sde", steps=3))
    assert Again.made == before
    assert not sd.solver("predictor_corrector", predictor="sde", corrector="langevin").recordable
    _recording(model, solver="ddim", steps=3)((5, 4))
    assert Again.made == before + 1


def test_a_replay_that_is_not_finite_is_refused() -> None:
    model = _model()
    sampler = _recording(model, solver="ddim", steps=3)
    sampler((5, 4))
    with torch.no_grad():
        model.net.inner.weight.fill_(float("nan"))
    with pytest.raises(sd.SolverError, match="reached NaN or infinity in step 1"):
        sampler((5, 4))


@pytest.mark.parametrize("asked", [None, torch.float32, torch.bfloat16])
def test_a_replay_has_the_type_of_the_plain_run(asked: torch.dtype | None) -> None:
    x = torch.linspace(-1, 1, 20).reshape(5, 4).half()
    options = {"solver": "ddim", "steps": 3, "dtype": asked}
    found, plain = _recording(_model(), **options)(x=x), sd.sample(_model(), x=x, **options)
    assert found.dtype is plain.dtype is (asked or torch.float16)


def test_normals_for_a_replay_are_drawn_for_many_steps_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = _recording(_model(), solver="ancestral", steps=12)
    sampler((5, 4))
    draws = []
    plain = counter.normals
    monkeypatch.setattr(counter, "normals", lambda *a: (draws.append(a), plain(*a))[1])
    sampler((5, 4), seed=1)
    assert len(draws) <= 3  # the start, and twelve steps together


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("solver", ["ddim", "ancestral", "dpmpp_2m"])
def test_a_cuda_graph_gives_the_eager_samples(solver: str) -> None:
    model = _model()
    model.net.cuda()
    sampler = sd.Sampler(model, solver=solver, steps=6, compile=True)
    for seed in (0, 1):
        eager = sd.sample(model, (5, 4), solver=solver, steps=6, seed=seed)
        torch.testing.assert_close(sampler((5, 4), seed=seed), eager, rtol=1e-4, atol=1e-4)
    once = sd.sample(model, (5, 4), solver=solver, steps=6, seed=1, compile=True)
    torch.testing.assert_close(once, eager, rtol=1e-4, atol=1e-4)


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
