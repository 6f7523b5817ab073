"""Methods of torchsde and of ODE libraries as solvers."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff import integrate
from sdediff._utils.errors import MissingPackageError
from sdediff.solvers import ReverseSDE
from tests.solvers.draws import draws

F64 = torch.float64


# --- torchsde's methods
@pytest.mark.parametrize("method", integrate.TORCHSDE)
def test_torchsde_methods_have_their_strong_order_and_their_calls(method: str) -> None:
    """Median distance from a fine solution on the same path; srk's claim is a lower bound here (about 1.9)."""
    model = sd.target("target_m").model(sd.VP())
    x = draws(128, 2)
    solver = ReverseSDE(method)

    def run(s: Any, n: int) -> torch.Tensor:
        return sd.sample(model, x=x, solver=s, steps=n, start=0.8, stop=0.3, noise="brownian", seed=5, denoise=False)

    fine = run(ReverseSDE("srk"), 160)
    errors = [(run(solver, n) - fine).norm(dim=1).median().item() for n in (8, 16, 32)]
    slope = math.log2(errors[0] / errors[-1]) / 2
    assert slope > solver.strong_order - 0.15, errors
    record = sd.sample(model, x=x[:2], solver=ReverseSDE(method, substeps=3), steps=4, full=True)
    assert record.calls == 4 * ReverseSDE(method, substeps=3).calls + 1


@pytest.mark.parametrize("method", integrate.ODES)
def test_every_black_box_ode_method_integrates(method: str) -> None:
    """dx/dt = cos(t) x from 0 to 2: x = exp(sin 2), by 200 equal steps or 1e-7."""
    if method in integrate.TORCHODE:
        pytest.importorskip("torchode", reason="torchode, of the extra `peers`, is not installed")
    x = torch.tensor([[1.0, 2.0]], dtype=F64)

    def field(t: Any, y: torch.Tensor) -> torch.Tensor:
        return torch.cos(torch.as_tensor(t, dtype=F64)).reshape(-1, 1) * y

    found = integrate.odeint(field, x, 0.0, 2.0, method, 1e-7, 1e-7, steps=200)
    gap = (found / x - math.exp(math.sin(2.0))).abs().max().item()
    assert gap < {"euler": 2e-2}.get(method, 2e-4)


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchode", None)
    with pytest.raises(MissingPackageError, match=r"torchode_dopri5 needs torchode.*pip install torchode"):
        integrate.odeint(lambda t, x: x, torch.ones(2, 2), 0.0, 1.0, "torchode_dopri5")


def test_gradients_that_are_not_known_are_refused() -> None:
    with pytest.raises(sd.Error, match="unknown kind of gradient 'Direct': that is 'direct' here"):
        integrate.odeint(lambda t, x: x, torch.ones(2, 2), 0.0, 1.0, gradient="Direct")
