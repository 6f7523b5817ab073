"""The recorded loop: what surrounds a CUDA graph, with a graph that runs its body again; on a GPU the real one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import sdediff as sd
from sdediff.graphs import Drawn, replayed
from sdediff.run import prepare


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
