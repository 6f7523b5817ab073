"""The loop: options of sample and iterate, purity, independence of batch, resuming, compiling."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff.testing.gaussian import gaussian_model

F64 = torch.float64


def _mixture(**options: Any) -> sd.ScoreModel:
    return sd.target("target_m").model(sd.VP())


@pytest.mark.parametrize("name", [n for n, s in sd.list_solvers().items() if not (s.corrector or s.adaptive)])
def test_a_sample_depends_on_its_seed_and_number_alone(name: str) -> None:
    """A11: 64 together, some alone, in another order: to the bit for an elementwise network."""
    model = gaussian_model(sd.VP())
    together = sd.sample(model, (64, 2), solver=name, steps=6, dtype=F64)
    order = [40, 3, 17]
    some = sd.sample(model, (3, 2), solver=name, steps=6, index=order, dtype=F64)
    assert torch.equal(some, together[order])


def test_shapes_of_the_record_and_the_calls_budget() -> None:
    record = sd.sample(_mixture(), (5, 2), solver="dpmpp_2m", calls=10, full=True)
    assert record.calls == 10
    assert record.trajectory.shape == (10, 5, 2)
    assert record.times[0] == 1.0
    assert bool((record.times.diff() < 0).all())
    assert sd.sample(_mixture(), (5, 2), solver="heun", calls=10, full=True).calls == 9
    assert sd.sample(_mixture(), (5, 2), solver="dpmpp_2m", calls=10, denoise=False, full=True).calls == 10


def test_start_from_a_noised_state() -> None:
    """Image to image: noise data to t = 0.3, solve from there; the mixture's component is kept."""
    target, sde = sd.target("target_m"), sd.VP()
    x0 = target.sample(256, dtype=F64)
    at = sde.marginal(0.3)
    x = at.scale * x0 + at.std * torch.randn(256, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    back = sd.sample(target.model(sde), x=x, start=0.3, solver="heun", steps=20)
    whole = sd.sample(target.model(sde), (256, 2), solver="heun", steps=20, dtype=F64)
    assert (back - x0).norm(dim=1).median() < 0.75 * (whole - x0).norm(dim=1).median()
    assert abs(target.log_prob(back).mean() - target.log_prob(x0).mean()) < 0.5


def test_conditions_reach_the_network() -> None:
    def net(x: torch.Tensor, t: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
        return torch.zeros_like(x) + shift

    model = sd.ScoreModel(net, sd.VP(), predicts="x0")
    x = sd.sample(model, (2, 3), steps=3, cond={"shift": 4.0})
    assert torch.allclose(x, torch.full_like(x, 4.0))
    assert torch.allclose(sd.sample(model.given(shift=2.0), (2, 3), steps=3), torch.full((2, 3), 2.0))


def test_callback_sees_every_state_and_the_first_prediction() -> None:
    seen: list[sd.State] = []
    sd.sample(_mixture(), (4, 2), solver="heun", steps=5, callback=seen.append)
    assert [state.t.index for state in seen] == [0, 1, 2, 3, 4, 5]
    for state in seen:
        assert state.prediction is not None
        assert torch.equal(state.prediction.x, state.x)


def test_gradients_on_request() -> None:
    z = torch.ones(2, 2, requires_grad=True)
    x = sd.sample(_mixture(), x=z, solver="ddim", steps=4, grad=True)
    (grad,) = torch.autograd.grad(x.sum(), z)
    assert torch.isfinite(grad).all()
    assert grad.abs().max() > 0
    assert not sd.sample(_mixture(), x=z.detach(), solver="ddim", steps=4).requires_grad


@pytest.mark.parametrize("noise", ["counter", "brownian", "stream"])
def test_noise_by_name(noise: str) -> None:
    run = lambda seed: sd.sample(_mixture(), (4, 2), solver="ancestral", steps=4, noise=noise, seed=seed)  # noqa: E731
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_states_follow_the_networks_dtype() -> None:
    net = torch.nn.Linear(2, 2).double().eval()
    model = sd.ScoreModel(lambda x, t: net(x), sd.VP())
    wrapped = sd.ScoreModel(_Wrapped(net), sd.VP())
    assert sd.sample(wrapped, (2, 2), steps=2).dtype == F64
    assert sd.sample(model, (2, 2), steps=2).dtype == F64
    assert sd.sample(model, (2, 2), steps=2, dtype=torch.float32).dtype == torch.float32


class _Wrapped(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert t.dtype == x.dtype
        return self.inner(x)


def test_half_precision_states_stay_half() -> None:
    x = sd.sample(gaussian_model(sd.VP()), (8, 16), solver="dpmpp_2m", steps=8, dtype=torch.bfloat16)
    assert x.dtype == torch.bfloat16
    assert abs(x.float().mean() - 0.5) < 0.2


def test_encode_then_decode_is_the_identity() -> None:
    target = sd.target("target_m")
    for sde in (sd.VP(), sd.VE(), sd.RectifiedFlow(), sd.EDM(), sd.SubVP()):
        model, x = target.model(sde), target.sample(32, dtype=F64)
        fine = sd.solver("ode", rtol=1e-8, atol=1e-8)
        z = sd.encode(model, x, solver=fine)
        assert (sd.decode(model, z, solver=fine) - x).abs().max() < 1e-4


def test_encode_after_sample_returns_the_start() -> None:
    model = _mixture()
    fine = sd.solver("ode", method="DOP853", rtol=1e-9, atol=1e-9)
    z = torch.randn(16, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    x = sd.decode(model, z, solver=fine)
    assert (sd.encode(model, x, solver=fine) - z).abs().max() < 1e-6


def test_grid_solvers_encode_too() -> None:
    """Heun run backwards with its own steps inverts itself to its order."""
    model, x = _mixture(), sd.target("target_m").sample(32, dtype=F64)
    gaps = []
    for n in (50, 100):
        z = sd.encode(model, x, solver="heun", steps=n)
        gaps.append((sd.decode(model, z, solver="heun", steps=n) - x).norm(dim=1).median().item())
    assert gaps[1] < gaps[0] / 2.5
    with pytest.raises(sd.SolverError, match="deterministic"):
        sd.encode(model, x, solver="ancestral")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_network_gives_the_same_samples() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.SiLU(), torch.nn.Linear(32, 4)).eval()
    model = sd.ScoreModel(_Plain(net), sd.VP())
    eager = sd.sample(model, (8, 4), solver="dpmpp_2m", steps=5)
    assert torch.allclose(sd.sample(model, (8, 4), solver="dpmpp_2m", steps=5, compile=True), eager, atol=1e-5)


class _Plain(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + t[:, None]


def test_a_network_in_train_mode_is_refused() -> None:
    net = torch.nn.Sequential(torch.nn.Dropout(0.5))
    with pytest.raises(sd.ModelError, match=r"net\.eval\(\)"):
        sd.sample(sd.ScoreModel(net, sd.VP()), (2, 2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "at least one step"),
        ({"steps": -3}, "at least one step"),
        ({"steps": 3, "calls": 4}, "write one of them"),
        ({"calls": 1}, "at least 2"),
        ({"calls": 20, "solver": "ode"}, "rtol"),
        ({"grid": "karas"}, "karras"),
        ({"grid": [0.1, 0.5]}, "falls strictly"),
        ({"grid": [0.5, 0.1], "steps": 3}, "leave steps and calls out"),
        ({"grid": [2.0, 0.1]}, r"\[0, 1.0\]"),
        ({"start": 2.0}, "within"),
        ({"noise": "browning"}, "brownian"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"index": [1, 2, 3]}, "one integer each"),
        ({"index": -4}, "sample indices"),
        ({"solver": "dpmpp2m"}, "dpmpp_2m"),
        ({"x": torch.zeros(3, 2)}, "leave one out"),
    ],
)
def test_errors_say_what_to_write(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sd.sample(_mixture(), (2, 2), **options)


def test_shape_is_needed() -> None:
    with pytest.raises(ValueError, match="shape"):
        sd.sample(_mixture())
    with pytest.raises(ValueError, match="positive"):
        sd.sample(_mixture(), (0, 2))
    with pytest.raises(ValueError, match="batch size"):
        sd.sample(_mixture(), (4,))


def test_a_process_of_drift_and_diffusion_alone() -> None:
    """An Ornstein-Uhlenbeck process written without alpha and sigma gives what its linear twin gives."""

    class Plain(sd.SDE):
        def drift(self, x: torch.Tensor, t: Any) -> torch.Tensor:
            return -2.0 * x

        def diffusion(self, t: Any) -> torch.Tensor:
            return torch.full_like(torch.as_tensor(t, dtype=F64), 2.0)

    twin = sd.VP(beta_min=4.0, beta_max=4.0)
    linear = gaussian_model(twin)
    plain = sd.ScoreModel(lambda x, t: linear(x, t.double()).score, Plain(), predicts="score")
    z = torch.randn(6, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    for name in ("euler_maruyama", "euler", "heun", "ode", "sde"):
        a = sd.sample(plain, x=z, solver=name, steps=10, grid="uniform", denoise=False)
        b = sd.sample(linear, x=z, solver=name, steps=10, grid="uniform", denoise=False)
        assert torch.allclose(a, b, atol=1e-9), name
    for name in ("ddim", "dpmpp_2m", "ancestral", "reverse_diffusion", "predictor_corrector"):
        with pytest.raises(sd.SolverError, match="alpha and sigma"):
            sd.sample(plain, x=z, solver=name, steps=10)
    with pytest.raises(sd.SolverError, match="give x="):
        sd.sample(plain, (6, 3), solver="euler_maruyama")
