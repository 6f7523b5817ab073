"""The order of a multistep run at its end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff.solvers import LowerOrderFinal, SolverError, lower_order_final
from sdediff.testing import check_solver, measured_order
from sdediff.testing.gaussian import gaussian_model
from tests.references import reference

F64 = torch.float64


@dataclass(frozen=True)
class Noted(sd.Solver):
    """A solver of three orders that writes down which one it was used at, with a call and a node per order."""

    points: int = 3
    log: Any = None

    order = 3
    tried = 0  # a trial would be written down too

    @property
    def calls(self) -> int:  # type: ignore[override]
        return self.points

    def lowered(self, order: int) -> sd.Solver:
        return replace(self, points=min(self.points, order))

    def inner(self, sde: Any, t: Any, s: Any) -> list[float]:
        return [t.time + i / self.points * (s.time - t.time) for i in range(1, self.points)]

    def step(self, model: Any, x: Any, t: Any, s: Any, state: Any, noise: Any) -> Any:
        assert len(s.inner) == self.points - 1
        self.log.points.append(self.points)
        for node in (t, *s.inner):
            model(x, node)
        return x, None


class Log:
    def __init__(self) -> None:
        self.points: list[int] = []


def _orders(n: int, **options: Any) -> tuple[list[int], int]:
    solver = lower_order_final(Noted(log=Log()), **options)
    run = sd.sample(gaussian_model(sd.VP()), (1, 2), solver=solver, steps=n, full=True)
    assert run.calls == solver.spent(n) + 1 == sum(solver.solver.log.points) + 1  # type: ignore[attr-defined, operator]
    return solver.solver.log.points, run.calls  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("n", "options", "orders"),
    [
        (6, {}, [3, 3, 3, 3, 2, 1]),
        (2, {}, [2, 1]),
        (1, {}, [1]),
        (6, {"last": 2}, [3, 3, 3, 3, 3, 2]),
        (6, {"last": 3}, [3, 3, 3, 3, 3, 3]),
        (6, {"below": 6}, [3, 3, 3, 3, 3, 3]),
        (5, {"below": 6}, [3, 3, 3, 2, 1]),
    ],
)
def test_the_order_is_at_most_the_steps_left(n: int, options: dict[str, int], orders: list[int]) -> None:
    assert _orders(n, **options)[0] == orders


@pytest.mark.parametrize("n", range(2, 25))
def test_dpm_solvers_rule(n: int) -> None:
    """Its code: step_order = min(order, steps + 1 - step) where steps < 10, else order."""
    expected = [min(3, n + 1 - step) if n < 10 else 3 for step in range(1, n + 1)]
    assert _orders(n, below=10)[0] == expected


@pytest.mark.parametrize("n", range(3, 25))
def test_diffusers_rule(n: int) -> None:
    """n steps, the last of them to sigma = 0: order 1 there always, 2 before it where n < 15."""
    orders = [3] * n
    orders[-1] = 1
    if n < 15:
        orders[-2] = 2
    # The step to sigma = 0 is the jump to data here: n - 1 steps.
    assert _orders(n - 1, last=2, below=14)[0] == orders[:-1]


def test_calls_buy_as_many_steps_as_fit() -> None:
    log = Log()
    solver = lower_order_final(Noted(log=log))
    assert solver.calls is None
    assert [solver.spent(n) for n in (1, 2, 3, 4)] == [1, 3, 6, 9]
    run = sd.sample(gaussian_model(sd.VP()), (1, 2), solver=solver, calls=12, full=True)
    assert (run.calls, log.points) == (10, [3, 3, 2, 1])


@pytest.mark.parametrize("points", [2, 3])
def test_the_last_step_of_adams_is_ddims(points: int) -> None:
    """The last step alone, with the history of the steps before: DDIM's step in closed form."""
    model, plain = sd.target("target_m").model(sd.VP()), sd.solver("adams", points=points)
    options: dict[str, Any] = {"steps": 6, "dtype": F64, "denoise": False, "full": True}
    ended = sd.sample(model, (8, 2), solver=lower_order_final(plain), **options)
    usual = sd.sample(model, (8, 2), solver=plain, **options)
    same = 6 - points + 1
    assert torch.equal(ended.trajectory[: same + 1], usual.trajectory[: same + 1])
    assert not torch.equal(ended.trajectory[same + 1], usual.trajectory[same + 1])
    x, (t, s) = ended.trajectory[-2], (sd.level(sd.VP(), v) for v in ended.times[-2:].tolist())
    ddim = s.sigma / t.sigma * x + (s.alpha - s.sigma / t.sigma * t.alpha) * model(x, t).x0
    torch.testing.assert_close(ended.x, ddim, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("points", [2, 3])
@pytest.mark.parametrize("options", [{}, {"last": 2}, {"below": 15}])
def test_the_order_stays(points: int, options: dict[str, int]) -> None:
    solver = lower_order_final(sd.solver("adams", points=points), **options)
    assert solver.order == points
    assert abs(measured_order(solver, reference=reference(sd.VP())) - points) < 0.15


def test_it_conforms_and_shows_its_name() -> None:
    solver = lower_order_final("adams", last=1, below=15)
    assert len(check_solver(solver)) == 11
    assert repr(solver) == f"LowerOrderFinal(solver={sd.solver('adams')!r}, last=1, below=15)"
    assert solver == LowerOrderFinal(sd.solver("adams"), below=15)
    for name in ("grid", "steps", "stochastic", "at_zero_alpha", "needs_alpha", "reference", "corrector"):
        assert getattr(solver, name) == getattr(solver.solver, name)
    assert solver.lowered(1) == solver.solver.lowered(1)


def test_a_stochastic_member_ends_low_too() -> None:
    solver = lower_order_final(sd.solver("adams", points=3, eta=1.0))
    assert solver.order is None
    assert solver.stochastic
    x = sd.sample(gaussian_model(sd.VP()), (512, 4), solver=solver, steps=40, dtype=F64)
    assert abs(x.mean() - 0.5) < 0.05  # s.e. 0.3 / sqrt(2048) = 0.007
    assert abs(x.std() - 0.3) < 0.05  # s.e. 0.005


@pytest.mark.parametrize("name", ["ddim", "heun", "ancestral", "ode"])
def test_solvers_of_one_order_are_refused(name: str) -> None:
    with pytest.raises(SolverError, match="has no lower order to end with: give a multistep solver"):
        lower_order_final(name)


def test_bad_numbers_are_refused() -> None:
    for options in ({"last": 0}, {"below": 0}):
        with pytest.raises(SolverError, match="orders and steps are positive whole numbers"):
            lower_order_final("adams", **options)
