"""Integration with steps of its own for every sample."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch

from sdediff.integrate import PAIRS, STATUS, TABLEAUS, Counted, Tried, adaptive, march, rows_of

F64 = torch.float64


# --- the stepper
def _oscillator(t: torch.Tensor, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """dx/dt = w cos(w t) x with w = 1 + row: x = exp(sin(w t))."""
    w = 1.0 + rows.double()
    return (w * torch.cos(w * t)).to(x)[:, None] * x


def _truth(t: torch.Tensor, batch: int) -> torch.Tensor:
    return torch.exp(torch.sin((1.0 + torch.arange(batch, dtype=F64)) * t))[..., None]


@pytest.mark.parametrize("method", PAIRS)
@pytest.mark.parametrize("backwards", [False, True])
def test_every_sample_arrives_within_its_tolerance_in_either_direction(method: str, backwards: bool) -> None:
    span = torch.tensor([0.3, 2.0, 1.0, 1.7], dtype=F64)
    start, stop = (span, torch.zeros(4, dtype=F64)) if backwards else (torch.zeros(4, dtype=F64), span)
    seen: list[torch.Tensor] = []

    def field(t: torch.Tensor, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        assert t.dtype == F64
        assert t.shape == rows.shape == x.shape[:1]
        assert ((t >= 0) & (t <= span[rows])).all(), "evaluated beyond an end"
        seen.append(rows.clone())
        return _oscillator(t, x, rows)

    x = _truth(start, 4).expand(4, 3).clone()
    tolerance = 1e-5 if method == "heun12" else 1e-9
    found = adaptive(field, x, start, stop, method, tolerance, tolerance)
    assert torch.equal(found.t, stop)
    assert [STATUS[i] for i in found.status.tolist()] == ["ok"] * 4
    assert (found.x - _truth(stop, 4)).abs().max().item() < 300 * tolerance
    assert found.evaluations == len(seen)
    counted = torch.stack([sum((rows == i).sum() for rows in seen) for i in range(4)])
    assert torch.equal(found.calls, counted)


@pytest.mark.parametrize("method", PAIRS)
def test_the_error_falls_with_the_tolerance_as_the_order_says(method: str) -> None:
    """A pair of order p that controls the error of order p - 1 per step: error ~ tol^(1 .. p/(p-1))."""
    x = torch.ones(24, 1, dtype=F64)
    errors, calls = [], []
    for tolerance in (1e-2, 1e-3, 1e-4, 1e-5) if method == "heun12" else (1e-3, 1e-4, 1e-5, 1e-6):
        found = adaptive(_oscillator, x, 0.0, 2.0, method, tolerance, tolerance)
        errors.append((found.x - _truth(torch.tensor(2.0), 24)).abs().median().item())
        calls.append(found.calls.double().mean().item())
    slope = math.log(errors[0] / errors[-1]) / math.log(1e3)
    assert 0.7 < slope < 1.4, errors
    order = TABLEAUS[method].order
    growth = math.log(calls[-1] / calls[0]) / math.log(1e3)
    assert 0.5 / order < growth < 1.3 / order + 0.02, calls


def test_calls_use_the_last_slope_again() -> None:
    x = torch.ones(3, 1, dtype=F64)
    for method, stages, first in (("dopri5", 6, 2), ("tsit5", 6, 2), ("bosh3", 3, 2)):
        found = adaptive(_oscillator, x, 0.0, 2.0, method, 1e-6, 1e-6)
        assert torch.equal(found.calls, stages * (found.steps + found.rejected) + first)
        found = adaptive(_oscillator, x, 0.0, 2.0, method, 1e-6, 1e-6, first_step=1e-2)
        assert torch.equal(found.calls, stages * (found.steps + found.rejected) + first - 1)
    found = adaptive(_oscillator, x, 0.0, 2.0, "heun12", 1e-4, 1e-4)
    assert torch.equal(found.calls, 2 * found.steps + found.rejected + 1)  # a rejected try keeps its first slope
    assert found.rejected.sum() > 0


def test_a_sample_does_not_depend_on_its_mates() -> None:
    x = torch.rand(16, 5, dtype=F64, generator=torch.Generator().manual_seed(0)) + 0.5
    together = adaptive(_oscillator, x, 0.0, 1.5, rtol=1e-6, atol=1e-6, at=[0.2, 0.9])
    for i in (0, 7, 15):
        alone = adaptive(lambda t, y, rows, i=i: _oscillator(t, y, rows + i), x[i : i + 1], 0.0, 1.5, rtol=1e-6,
                         atol=1e-6, at=[0.2, 0.9])  # fmt: skip
        assert (together.x[i] - alone.x[0]).abs().max().item() < 1e-12
        assert (together.path[:, i] - alone.path[:, 0]).abs().max().item() < 1e-12
        for name in ("steps", "rejected", "calls"):
            assert getattr(together, name)[i] == getattr(alone, name)[0]


def test_a_sample_that_is_not_finite_leaves_and_its_mates_do_not_notice() -> None:
    x = torch.rand(9, 7, dtype=torch.float32, generator=torch.Generator().manual_seed(1)) + 0.5

    def field(t: torch.Tensor, y: torch.Tensor, rows: torch.Tensor, sick: bool) -> torch.Tensor:
        slope = _oscillator(t, y, rows)
        if sick:
            slope[(rows == 3)] = math.nan  # from the first call on
            slope[(rows == 5) & (t > 0.7)] = math.nan  # beyond a time
        return slope

    well = adaptive(functools.partial(field, sick=False), x, 0.0, 1.0, at=[0.5, 1.0])
    ill = adaptive(functools.partial(field, sick=True), x, 0.0, 1.0, at=[0.5, 1.0])
    mates = [i for i in range(9) if i not in (3, 5)]
    assert torch.equal(well.x[mates], ill.x[mates])
    assert torch.equal(well.path[:, mates], ill.path[:, mates])
    assert torch.equal(well.calls[mates], ill.calls[mates])
    assert [STATUS[i] for i in ill.status.tolist()] == ["ok" if i in mates else "not finite" for i in range(9)]
    assert ill.t[3] == 0.0
    assert ill.calls[3] <= 8  # known from the first slope: one try and no more
    assert 0.6 < ill.t[5] <= 0.7 + 1e-12
    assert torch.isfinite(ill.x).all()  # the last accepted states
    assert torch.isnan(ill.path[1, [3, 5]]).all()
    assert torch.isfinite(ill.path[0, 5]).all()


def test_one_stiff_sample_among_64_costs_the_others_nothing() -> None:
    rate = torch.ones(64, dtype=F64)
    rate[17] = 3000.0

    def field(t: torch.Tensor, x: torch.Tensor, rows: torch.Tensor, shared: bool = False) -> torch.Tensor:
        return -rate[rows][:, None] * (x - torch.cos(t)[:, None])

    x = torch.rand(64, 2, dtype=F64, generator=torch.Generator().manual_seed(2))
    found = adaptive(field, x, 0.0, 2.0)
    others = torch.arange(64) != 17
    calm = adaptive(lambda t, y, rows: -(y - torch.cos(t)[:, None]), x[others], 0.0, 2.0)
    assert torch.equal(found.calls[others], calm.calls)
    assert found.calls[17] > 20 * found.calls[others].max()
    # A shared step would take every sample along: 64 evaluations a call.
    assert found.calls.sum() < found.evaluations * 64 / 10


@pytest.mark.parametrize(("method", "order"), [("heun12", 2), ("bosh3", 3), ("dopri5", 4), ("tsit5", 4)])
def test_states_at_times_inside_are_as_accurate_as_the_extension(method: str, order: int) -> None:
    tolerance = 1e-5 if method == "heun12" else 1e-8
    x = torch.ones(3, 1, dtype=F64)
    at = torch.linspace(0, 2, 41, dtype=F64)
    found = adaptive(_oscillator, x, 0.0, 2.0, method, tolerance, tolerance, at=at)
    gap = (found.path - _truth(at[:, None], 3)).abs().max().item()
    assert gap < 300 * tolerance
    assert torch.equal(found.path[0], x)
    assert torch.allclose(found.path[-1], found.x, rtol=0, atol=1e-14)
    plain = adaptive(_oscillator, x, 0.0, 2.0, method, tolerance, tolerance)
    assert torch.equal(plain.x, found.x)
    assert torch.equal(plain.calls, found.calls)  # no call more for the path
    own = torch.stack([torch.tensor([0.1, 1.3, 2.0]), torch.tensor([2.0, 0.0, 0.7])]).double()
    each = adaptive(_oscillator, x, 0.0, 2.0, method, tolerance, tolerance, at=own)
    assert (each.path - _truth(own, 3)).abs().max().item() < 300 * tolerance


def test_states_keep_dtype_and_rank_and_inputs_stay_as_they_are() -> None:
    for shape in ((3, 2), (2, 1, 4, 4)):
        for dtype in (torch.float32, F64):
            x = torch.ones(shape, dtype=dtype)
            found = adaptive(lambda t, y, rows: -y, x, 0.0, 1.0, at=[0.5])
            assert found.x.dtype == found.path.dtype == dtype
            assert found.x.shape == shape
            assert torch.equal(x, torch.ones(shape, dtype=dtype))
            assert (found.x - math.exp(-1)).abs().max().item() < 1e-4
            assert found.t.dtype == F64


def test_a_sample_with_no_way_to_go_is_left_alone() -> None:
    x = torch.ones(3, 2, dtype=F64)
    stop = torch.tensor([1.0, 0.0, 0.5], dtype=F64)
    found = adaptive(lambda t, y, rows: -y, x, 0.0, stop)
    assert torch.equal(found.x[1], x[1])
    assert found.calls[1] == found.steps[1] == 0
    assert (found.x - torch.exp(-stop)[:, None]).abs().max().item() < 1e-5
    still = adaptive(lambda t, y, rows: -y, x, 0.0, 0.0)
    assert torch.equal(still.x, x)
    assert still.evaluations == 0


def test_limits_are_reported_with_the_last_time() -> None:
    x = torch.ones(2, 1, dtype=F64)
    found = adaptive(_oscillator, x, 0.0, 20.0, rtol=1e-8, atol=1e-8, max_steps=9)
    assert [STATUS[i] for i in found.status.tolist()] == ["step limit"] * 2
    assert ((found.t > 0) & (found.t < 20)).all()
    assert torch.equal(found.steps + found.rejected, torch.tensor([9, 9]))
    # dx/dt = x^2 from 1 blows up at t = 1: no step is small enough there.
    found = adaptive(lambda t, y, rows: y**2, torch.ones(1, 1, dtype=F64), 0.0, 2.0)
    assert STATUS[found.status.item()] in ("step too small", "not finite")
    assert abs(found.t.item() - 1.0) < 1e-2


def test_gradients_pass_through() -> None:
    x = torch.ones(3, 1, dtype=F64, requires_grad=True)
    found = adaptive(_oscillator, x, 0.0, torch.tensor([1.0, 0.4, 0.7], dtype=F64), rtol=1e-8, atol=1e-8)
    (slope,) = torch.autograd.grad(found.x.sum(), x)
    assert torch.allclose(slope, found.x.detach(), atol=1e-6)  # linear in x, from x = 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "rk4"}, "embedded pair"),
        ({"rtol": -1.0}, "rtol"),
        ({"atol": 0.0}, "atol"),
        ({"first_step": 0.0}, "positive"),
        ({"at": [2.0]}, "between start and stop"),
        ({"at": torch.zeros(2, 5)}, r"\(n, 3\)"),
        ({"stop": math.inf}, "finite"),
    ],
)
def test_bad_arguments_are_named(options: dict, said: str) -> None:
    given = {"start": 0.0, "stop": 1.0, **options}
    with pytest.raises(ValueError, match=said):
        adaptive(_oscillator, torch.ones(3, 1, dtype=F64), **given)


def test_a_field_that_changes_the_type_is_named() -> None:
    with pytest.raises(ValueError, match="same shape and type"):
        adaptive(lambda t, y, rows: -y * t[:, None], torch.ones(3, 1), 0.0, 1.0)


@pytest.mark.parametrize("most", [4, 5, 6])
def test_a_sample_that_arrives_on_its_last_attempt_has_arrived(most):
    """Steps of 1 over [0, 5], the second sample's of .5: it never arrives, the first does with its fifth attempt."""
    field = Counted(lambda t, x, rows: torch.ones_like(x), 2)

    def attempt(step):
        return Tried(step.x + rows_of(step.h, step.x), np.zeros(len(step.x)), (), ())

    def control(error, step):
        return np.ones(len(error)), error <= 1

    x = torch.zeros(2, 3, dtype=torch.float64)
    result = march(attempt, field, x, 0.0, 5.0, control, np.array([1.0, 0.5]), max_steps=most)
    assert [STATUS[i] for i in result.status.tolist()] == ["ok" if most >= 5 else "step limit", "step limit"]
    assert result.t.tolist() == [min(most, 5), most / 2]
    assert torch.equal(result.x[:, 0], result.t)
