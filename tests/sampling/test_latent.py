"""Latents: arcs between them, and the way there and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.testing.gaussian import gaussian_model

F64 = torch.float64
PROCESSES = (sd.VP(), sd.VE(), sd.RectifiedFlow(), sd.EDM())


def _shoemake(a: np.ndarray, b: np.ndarray, w: float) -> np.ndarray:
    """sin((1 - w) o)/sin(o) a + sin(w o)/sin(o) b for one pair, o from the inner product."""
    o = math.acos(np.sum(a * b) / math.sqrt(np.sum(a * a) * np.sum(b * b)))
    return (math.sin((1 - w) * o) * a + math.sin(w * o) * b) / math.sin(o)


@pytest.mark.parametrize("shape", [(4, 2), (3, 1, 5, 5)])
@pytest.mark.parametrize("w", [0.0, 0.25, 0.5, 1.0])
def test_slerp_is_shoemakes_per_sample(shape: tuple[int, ...], w: float, normals: Any) -> None:
    a, b = normals(*shape), 2 * normals(*shape, seed=1)
    found = sd.latent.slerp(a, b, w)
    for row, one, other in zip(found, a, b, strict=True):
        np.testing.assert_allclose(row.numpy(), _shoemake(one.numpy(), other.numpy(), w), rtol=1e-10, atol=1e-12)
    each = sd.latent.slerp(a, b, torch.full((len(a),), w))
    torch.testing.assert_close(each, found, rtol=1e-12, atol=1e-12)


def test_a_weight_a_sample(normals: Any) -> None:
    a, b = normals(3, 6), normals(3, 6, seed=1)
    w = torch.tensor([0.1, 0.5, 0.9])
    for path in (sd.latent.slerp, sd.latent.lerp):
        rows = [path(a[i : i + 1], b[i : i + 1], w[i].item()) for i in range(3)]
        torch.testing.assert_close(path(a, b, w), torch.cat(rows), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(sd.latent.lerp(a, b, 0.3), 0.7 * a + 0.3 * b)


def test_slerp_keeps_the_norm_and_turns_evenly(normals: Any) -> None:
    a, b = normals(1, 64), normals(1, 64, seed=1)
    b = b * a.norm() / b.norm()
    row = sd.latent.interpolate(a, b, 9)[:, 0]
    torch.testing.assert_close(row.norm(dim=1), a.norm().expand(9), rtol=1e-12, atol=0)
    cosines = (row[1:] * row[:-1]).sum(1) / a.norm() ** 2
    torch.testing.assert_close(cosines, cosines.mean().expand(8), rtol=1e-12, atol=0)
    assert sd.latent.lerp(a, b, 0.5).norm() < 0.8 * a.norm()


@pytest.mark.parametrize("apart", [0.0, 1e-300, 1e-16, 1e-12, 1e-9, 1e-6, 1e-3])
def test_slerp_of_nearly_parallel_states_is_the_line(apart: float) -> None:
    a = torch.tensor([[3.0, 0.0, 4.0]], dtype=F64)
    b = a + apart * torch.tensor([[0.0, 1.0, 0.0]], dtype=F64)
    torch.testing.assert_close(sd.latent.slerp(a, b, 0.3), sd.latent.lerp(a, b, 0.3), rtol=apart**2 + 1e-14, atol=0)
    torch.testing.assert_close(sd.latent.slerp(a, 2 * a, 0.5), 1.5 * a, rtol=1e-14, atol=0)


def test_slerp_of_zero_states_and_of_opposite_ones() -> None:
    zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    assert torch.equal(sd.latent.slerp(zero, zero, 0.5), zero)
    assert sd.latent.slerp(zero, one, 0.5).isfinite().all()
    with pytest.raises(ValueError, match="opposite states, which no single arc joins"):
        sd.latent.slerp(one, -3 * one, 0.5)


def test_slerp_in_half_precision_keeps_its_dtype(normals: Any) -> None:
    a, b = normals(2, 300, dtype=torch.bfloat16), normals(2, 300, seed=1, dtype=torch.bfloat16)
    found = sd.latent.slerp(a, b, 0.5)
    assert found.dtype == torch.bfloat16
    assert abs(found.float().norm() / a.float().norm() - 1) < 0.1


def test_interpolate_goes_from_one_end_to_the_other(normals: Any) -> None:
    a, b = normals(3, 2, 4), normals(3, 2, 4, seed=1)
    for along in (sd.latent.slerp, sd.latent.lerp):
        row = sd.latent.interpolate(a, b, 5, along)
        assert row.shape == (5, 3, 2, 4)
        torch.testing.assert_close(row[0], a)
        torch.testing.assert_close(row[-1], b)
        torch.testing.assert_close(row[1], along(a, b, 0.25))
    with pytest.raises(ValueError, match="n=1: the two ends are part of the row, ask for at least 2"):
        sd.latent.interpolate(a, b, 1)
    for other in (normals(2, 2, 4), normals(3)):
        with pytest.raises(ValueError, match="two batches of one shape"):
            sd.latent.slerp(a if other.ndim > 1 else other, other, 0.5)


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda p: type(p).__name__)
def test_ode_round_trip_shrinks_with_its_tolerance(sde: sd.LinearSDE) -> None:
    target = sd.target("target_m")
    model, x = target.model(sde), target.sample(32, dtype=F64)
    for tolerance, allowed in ((1e-5, 1e-3), (1e-9, 1e-6)):
        solver = sd.solver("ode", rtol=tolerance, atol=tolerance)
        back = sd.decode(model, sd.encode(model, x, solver=solver), solver=solver)
        assert (back - x).norm(dim=1).median() < allowed


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda p: type(p).__name__)
def test_ddim_inversion_has_order_one(sde: sd.LinearSDE) -> None:
    """The latent against the flow's own and the round trip: both errors halve with the step (median of 64)."""
    target = sd.target("target_m")
    model, x = target.model(sde), target.sample(64, dtype=F64)
    options: dict[str, Any] = {"grid": "log_snr", "stop": 0.01 if sde.T > 1 else 1e-3}
    fine = sd.solver("ode", method="DOP853", rtol=1e-10, atol=1e-10)
    # Both begin where a log-SNR grid may.
    exact = sd.encode(model, x, solver=fine, stop=options["stop"], start=sde.t_max)
    there, back = [], []
    for n in (80, 320):
        z = sd.encode(model, x, solver="ddim", steps=n, **options)
        there.append((z - exact).norm(dim=1).median().item())
        back.append((sd.decode(model, z, solver="ddim", steps=n, **options) - x).norm(dim=1).median().item())
    for errors in (there, back):
        assert abs(math.log2(errors[0] / errors[1]) / 2 - 1) < 0.15, errors


@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("sde", PROCESSES, ids=lambda p: type(p).__name__)
def test_ddim_inverts_itself_exactly_where_the_data_are_one_point(sde: sd.LinearSDE, steps: int, normals: Any) -> None:
    """D is constant, so DDIM's step is exact both ways: z = alpha_T c + sigma_T/sigma_0 alpha_0 (x - c)."""
    c, x = 0.7, 0.7 + 1e-3 * normals(5, 3)
    model = sd.ScoreModel(lambda x, t: torch.full_like(x, c), sde, predicts="x0")
    options: dict[str, Any] = {"solver": "ddim", "steps": steps, "grid": "uniform", "stop": sde.t_min}
    z = sd.encode(model, x, **options)
    (a, begin), (b, end) = (tuple(v.item() for v in sde.marginal(t)) for t in (sde.t_min, sde.T))
    torch.testing.assert_close(z, b * c + end / begin * a * (x - c), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sd.decode(model, z, **options), x, rtol=1e-11, atol=0)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_whitened_basis_inverts_gaussian_data_exactly(steps: int, normals: Any) -> None:
    """N(0, 0.3^2): the flow is x / sqrt(alpha^2 0.09 + sigma^2) = constant, and F over that scale is zero."""
    sde, x = sd.VP(), 0.3 * normals(6, 4)
    solver = sd.solver("adams", points=1, basis="F", variable="angle", scale=0.3)
    model = gaussian_model(sde, 0.0, 0.3)
    z = sd.encode(model, x, solver=solver, steps=steps, stop=1e-3)
    w = (0.09 * sde.alpha(torch.tensor([1e-3, 1.0], dtype=F64)) ** 2 + sde.sigma(torch.tensor([1e-3, 1.0])) ** 2).sqrt()
    torch.testing.assert_close(z, x * sde.marginal(1e-3).scale * w[1] / w[0], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(sd.decode(model, z, solver=solver, steps=steps, stop=1e-3), x, rtol=1e-9, atol=1e-11)


def test_between_two_latents_lie_samples() -> None:
    """Half way between two data points, the arc decodes to likely states, the straight line of data does not."""
    target = sd.target("ring")
    model, x = target.model(sd.VP()), target.sample(64, dtype=F64)
    z = sd.encode(model, x)
    middle = sd.decode(model, sd.latent.slerp(z[:32], z[32:], 0.5))
    line = sd.latent.lerp(x[:32], x[32:], 0.5)
    assert target.log_prob(middle).median() > target.log_prob(x).median() - 1.5
    assert target.log_prob(line).median() < target.log_prob(x).median() - 10
