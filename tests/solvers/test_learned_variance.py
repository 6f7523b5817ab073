"""The ancestral step with a learned variance: Nichol and Dhariwal's formulas on full and strided chains."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import sdediff as sd

F64 = torch.float64
BETAS = torch.linspace(1e-3, 0.3, 40, dtype=F64)
ABAR = torch.cumprod(1 - BETAS, 0)
FULL = list(range(39, -1, -1))
STRIDED = [39, 31, 24, 20, 11, 10, 3, 0]


@dataclass(frozen=True)
class Plain(sd.Noise):
    """Unit normals that the test can draw too: one generator a level."""

    def __call__(self, t: Any, s: Any, like: torch.Tensor, draw: int = 0) -> torch.Tensor:
        return _draw(round(t.time) - 1, like)


def _draw(index: int, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(1000 + index))


def _net(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    at = index.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) / 40
    return torch.cat([torch.tanh(x + at), torch.sin(3 * x - at)], dim=1)


def _logs(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    eps, v = _net(x, index).chunk(2, 1)
    return torch.cat([eps, 2 * v - 4], dim=1)


def _chain(chain: list[int], x: torch.Tensor, kind: str) -> torch.Tensor:
    """Nichol and Dhariwal 2021, eqs. 9 to 13, 15 and 19, from betas alone, down to the chain's last index."""
    net = _logs if kind == "learned" else _net
    for i, j in itertools.pairwise(chain):
        eps, v = net(x, torch.tensor([i])).chunk(2, 1)
        beta = 1 - ABAR[i] / ABAR[j]
        btilde = (1 - ABAR[j]) / (1 - ABAR[i]) * beta
        x0 = (x - (1 - ABAR[i]).sqrt() * eps) / ABAR[i].sqrt()
        mean = ABAR[j].sqrt() * beta / (1 - ABAR[i]) * x0
        mean = mean + (1 - beta).sqrt() * (1 - ABAR[j]) / (1 - ABAR[i]) * x
        share = (v + 1) / 2
        log_variance = v if kind == "learned" else share * beta.log() + (1 - share) * btilde.log()
        x = mean + torch.exp(0.5 * log_variance) * _draw(i, x)
    return x


def _start(shape: tuple[int, ...] = (3, 2, 4, 4)) -> torch.Tensor:
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(0))


def _model(net: Any) -> sd.ScoreModel:
    return sd.ScoreModel(net, sd.Table.from_betas(BETAS), predicts="eps", time="index")


def _sample(net: Any, chain: list[int], variance: str, x: torch.Tensor) -> torch.Tensor:
    solver = sd.solver("ddpm", variance=variance)
    return sd.sample(_model(net), x=x, solver=solver, grid=[i + 1.0 for i in chain], noise=Plain(), denoise=False)


@pytest.mark.parametrize("shape", [(3, 2, 4, 4), (5, 3)])
@pytest.mark.parametrize("chain", [FULL, STRIDED], ids=["full", "strided"])
@pytest.mark.parametrize("kind", ["learned_range", "learned"])
def test_nichol_and_dhariwal(kind: str, chain: list[int], shape: tuple[int, ...]) -> None:
    x = _start(shape)
    found = _sample(_logs if kind == "learned" else _net, chain, kind, x)
    assert (found - _chain(chain, x, kind)).abs().max().item() < 1e-11


@pytest.mark.parametrize("chain", [FULL, STRIDED], ids=["full", "strided"])
@pytest.mark.parametrize(("output", "fixed"), [(-1.0, "small"), (1.0, "large")])
def test_the_ends_of_the_range_are_the_fixed_variances(output: float, fixed: str, chain: list[int]) -> None:
    def net(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.tanh(x), torch.full_like(x, output)], dim=1)

    x = _start()
    found, expected = (_sample(net, chain, kind, x) for kind in ("learned_range", fixed))
    assert (found - expected).abs().max().item() < 1e-12


def test_a_pair_of_tensors_serves_as_well() -> None:
    x = _start()
    pair = _sample(lambda x, index: tuple(_net(x, index).chunk(2, 1)), STRIDED, "learned_range", x)
    assert torch.equal(pair, _sample(_net, STRIDED, "learned_range", x))


def test_a_whole_run_ends_in_data_without_noise() -> None:
    """The table's last ancestral step is the denoise: its variance, where btilde is zero, is never asked for."""
    chain = [i + 1.0 for i in FULL]
    solver = sd.solver("ddpm", variance="learned_range")
    record = sd.sample(_model(_net), x=_start(), solver=solver, grid=chain, noise=Plain(), full=True)
    assert record.calls == 40
    x = _chain(FULL, _start(), "learned_range")
    eps, _ = _net(x, torch.tensor([0])).chunk(2, 1)
    x0 = (x - (1 - ABAR[0]).sqrt() * eps) / ABAR[0].sqrt()
    assert (record.x - x0).abs().max().item() < 1e-11


@pytest.mark.parametrize("variance", ["learned_range", "learned"])
@pytest.mark.parametrize(
    "net",
    [
        lambda x, index: x,
        lambda x, index: (x, x[:, :1]),
        lambda x, index: (x, x, x),
    ],
    ids=["none", "shape", "three"],
)
def test_a_network_without_a_variance_is_refused(net: Any, variance: str) -> None:
    with pytest.raises(sd.ModelError, match="returns 2C channels, or a pair of tensors") as caught:
        _sample(net, STRIDED, variance, _start())
    assert "\n" not in str(caught.value)


@pytest.mark.peers
def test_diffusers_learned_range() -> None:
    """diffusers' DDPMScheduler with variance_type="learned_range" on 25 leading knots of DDPM's table."""
    diffusers = pytest.importorskip("diffusers")
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    peer = diffusers.DDPMScheduler(1000, variance_type="learned_range", clip_sample=False)
    peer.betas, peer.alphas, peer.alphas_cumprod = betas, 1 - betas, torch.cumprod(1 - betas, 0)
    peer.set_timesteps(25)
    x = _start((2, 3, 4, 4))
    model = sd.ScoreModel(_net, sd.Table.from_betas(betas), predicts="eps", time="index")
    found = sd.sample(
        model,
        x=x,
        solver=sd.solver("ddpm", variance="learned_range"),
        grid=[40.0 * i + 1 for i in range(24, -1, -1)],
        noise=Plain(),
        denoise=False,
    )
    for index in peer.timesteps[:-1]:
        output = _net(x, index[None])
        generator = torch.Generator().manual_seed(1000 + int(index))
        x = peer.step(output, index, x, generator=generator).prev_sample
    assert (found - x).abs().max().item() < 1e-10
