"""At the border of the network: whatever it does to its input, whatever it returns, the samples are the plain ones."""

import copy
import functools
import warnings

import pytest
import torch
from torch import Tensor, nn

import sdediff as sd
from tests.test_truth.odd_networks import DIMS, PLAIN, WAYS, WRAPPERS, Net, call

# One of each kind of solver by default, every registered one among the slow tests.
USUAL = {"dpmpp_2m", "unipc", "deis", "heun", "ddpm", "euler_ancestral", "predictor_corrector", "ode", "adaptive_sde"}
SOLVERS = [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in sd.list_solvers()]
# A stochastic solver that accepts or refuses a step by its error turns rounding into other steps.
ROUNDING = {"adaptive_sde": 0.1}
START = torch.randn(2, DIMS, generator=torch.Generator().manual_seed(3))


def _sample(net: Net, solver: str, x: Tensor = START, **options: object) -> Tensor:
    kept = x.clone()
    found = sd.sample(sd.ScoreModel(net, sd.VP()), x=x, solver=solver, steps=4, seed=5, **options)
    assert torch.equal(x, kept), "the caller's states have changed"
    return found


@functools.cache
def _wrapped(kind: str) -> Net:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return WRAPPERS[kind](PLAIN)


@functools.cache
def _right(solver: str, dtype: torch.dtype) -> Tensor:
    net = copy.deepcopy(PLAIN).to(dtype)
    return _sample(net, solver, START.to(dtype))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_do_not_depend_on_the_memory_a_network_uses(way: str, solver: str) -> None:
    make, plain = WAYS[way]
    assert torch.equal(_sample(make(), solver), _sample(plain, solver))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("solver", ["dpmpp_2m", "deis", "ancestral", "heun", "restart", "ode"])
def test_nor_in_inference_mode(way: str, solver: str) -> None:
    make, plain = WAYS[way]
    right = _sample(plain, solver)
    with torch.inference_mode():
        assert torch.equal(_sample(make(), solver), right)


@pytest.mark.parametrize("kind", WRAPPERS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_wrapped_network_gives_the_samples_of_the_plain_one(kind: str, solver: str) -> None:
    torch.testing.assert_close(_sample(_wrapped(kind), solver), _right(solver, torch.float32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_network_of_another_type_gives_samples_to_its_rounding(dtype: torch.dtype, solver: str) -> None:
    found = _sample(copy.deepcopy(PLAIN).to(dtype), solver)
    assert found.dtype == torch.float32
    error = (found - _right(solver, torch.float32)).norm() / _right(solver, torch.float32).norm()
    assert error < max(200 * torch.finfo(dtype).eps, ROUNDING.get(solver, 1e-3))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_float32_network_serves_float64_states(solver: str) -> None:
    found, right = _sample(PLAIN, solver, START.double()), _right(solver, torch.float64)
    assert found.dtype == torch.float64
    if solver not in ROUNDING:
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-3)


class Gaussian(nn.Module):
    """The noise in x_t for data of N(0, .5^2) on VP, by a layer of its own type; integral of beta from the clock."""

    def __init__(self, clock_scale: float = 1.0) -> None:
        super().__init__()
        self.layer, self.clock_scale = nn.Linear(64, 64, bias=False), clock_scale
        nn.init.eye_(self.layer.weight)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = t.float() / self.clock_scale
        square = torch.exp(-(0.1 * t + 19.9 * t * t / 2))[:, None]
        return self.layer(x) * ((1 - square).sqrt() / (0.25 * square + 1 - square)).to(x.dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("solver", ["ddim", "deis", "dpmpp_2m", "unipc", "ancestral", "heun"])
def test_the_spread_of_samples_by_a_network_of_half_precision(solver: str, dtype: torch.dtype) -> None:
    model, steps = sd.ScoreModel(Gaussian().to(dtype), sd.VP()), 300 if solver in ("ddim", "ancestral") else 50
    assert abs(sd.sample(model, (256, 64), solver=solver, steps=steps, seed=1).std().item() / 0.5 - 1) < 0.04


def test_half_precision_asked_for_is_the_type_of_the_result() -> None:
    model = sd.ScoreModel(Gaussian(), sd.VP())
    right = sd.sample(model, (4, 64), steps=10)
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(sd.sample(model, (4, 64), steps=10, dtype=dtype), right.to(dtype))
        assert sd.sample(model, x=START.repeat(1, 22)[:, :64].to(dtype), steps=3).dtype == dtype


def test_a_clock_reaches_a_network_of_half_precision_as_it_is() -> None:
    seen = []

    def watched(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        seen.append(t.clone())
        return call(net, x, t)

    model = sd.ScoreModel(functools.partial(watched, Gaussian(1000.0).bfloat16()), sd.VP(), time=lambda t: 999.5)
    full = sd.sample(model, (2, 64), solver="euler", steps=3, full=True)
    assert full.calls == len(seen)
    assert {t.dtype for t in seen} == {torch.float32}
    assert {v for t in seen for v in t.tolist()} == {999.5}


class Strict(Gaussian):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        assert t.dtype == x.dtype
        return super().forward(x, t)


def test_a_clock_is_cast_for_a_network_that_wants_its_own_type() -> None:
    net = Strict(1000.0).to(torch.float16)
    record = sd.sample(sd.ScoreModel(net, sd.VP(), time=lambda t: 1000 * t.time), (2, 64), steps=3, full=True)
    assert record.calls == 4
    assert torch.isfinite(record.x).all()
    with pytest.raises(sd.ModelError, match=r"the clock reads 1e\+06, which torch.float16 does not hold within 1 %"):
        sd.sample(sd.ScoreModel(net, sd.VP(), time=lambda t: 1e6 * t.time), (2, 64), solver="euler", steps=3)


def test_an_embedding_is_given_integers() -> None:
    table = nn.Embedding(1001, DIMS)
    sde = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    plain = sd.ScoreModel(lambda x, t: 0.1 * x + table(t.long()), sde, time="index")
    model = sd.ScoreModel(lambda x, t: 0.1 * x + table(t), sde, time="index")
    runs = [sd.sample(m, x=START, solver="ddim", grid="strided", steps=5) for m in (model, plain)]
    assert torch.equal(*runs)
