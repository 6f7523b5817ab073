"""Ancestral steps around deterministic solvers."""

from __future__ import annotations

import pytest
import torch

import sdediff as sd
from sdediff.solvers import DDIM, RungeKutta
from sdediff.solvers.churn import AncestralStep
from tests.solvers.equivalence import table
from tests.solvers.noise_injection import NCSN, first_states, model_on, run_on

F64 = torch.float64
PROCESSES = [sd.VP(), sd.SubVP(), sd.VE(), sd.EDM(), NCSN]


@pytest.mark.parametrize(("given", "down", "up"), [
    ((10, 5, 1.0), 2.5, 4.33012701892),
    ((10, 5, 0.5), 4.50693909433, 2.16506350946),
    ((2, 1.9, 1.0), 1.805, 0.593274809848),
    ((1, 0.1, 1.0), 0.01, 0.0994987437107),
])  # fmt: skip
def test_down_and_up_of_k_diffusions_ancestral_step(given: tuple[float, float, float], down: float, up: float) -> None:
    sde, (t, s, eta) = sd.EDM(), given
    solver = AncestralStep(DDIM(), eta=eta)
    # With a network that predicts x0 = 0 the end is (down/t) x + up z.
    model = sd.ScoreModel(lambda x, _: torch.zeros_like(x), sde, predicts="x0")
    x = torch.full((1, 3), 7.0, dtype=F64)
    row = table(solver, model, [t, s], x).levels
    assert row[1].inner[-1].sigma == pytest.approx(down, rel=1e-10)
    found = sd.sample(model, x=x, solver=solver, grid=[t, s], denoise=False, noise=sd.Counter(5))
    expected = down / t * x + up * sd.Counter(5)(*row, x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_euler_ancestral_is_ddim_of_its_eta(process: sd.LinearSDE, eta: float) -> None:
    """On every path, and to its last level, where the level below may lie beyond the process's end."""
    times = sd.grid("karras", process, 9)
    a = run_on(process, sd.solver("euler_ancestral", eta=eta), times)
    b = run_on(process, DDIM(eta), times)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_euler_in_time_lands_on_the_process_where_it_ends() -> None:
    """A solver in the process's own time cannot go beneath its end: the last noise is what leads up to s."""
    times = sd.grid("knots", NCSN)
    solver = AncestralStep(RungeKutta("euler"))
    x = run_on(NCSN, solver, times)
    row = table(solver, model_on(NCSN), times, x).levels
    assert [v.inner[-1].time for v in row[-2:]] == [1.0, 1.0]
    before = sd.sample(
        model_on(NCSN), x=first_states(NCSN), solver=solver, grid=times, denoise=False, full=True
    ).trajectory[-2]
    plain = model_on(NCSN)(before, row[-2]).mix(1.0, velocity=row[-1].time - row[-2].time)
    torch.testing.assert_close(x, plain, rtol=1e-9, atol=1e-9)
