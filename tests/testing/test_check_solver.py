"""The conformance kit finds faults and passes what is sound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff.testing import ConformanceError, check_solver


@dataclass(frozen=True)
class _Faulty(sd.Solver):
    """A first-order step with one fault, for the kit to find."""

    fault: str = ""
    memory: list[float] = field(default_factory=list, compare=False)
    order = 1

    def step(self, model: Any, x: Any, t: Any, s: Any, state: Any, noise: Any) -> Any:
        velocity = model(x, t).velocity
        if self.fault == "twice":
            model(x, t)
        if self.fault == "mutates":
            x.add_(0.0).mul_(1.0 + 1e-3)
        if self.fault == "global":
            torch.randn(1)
        if self.fault == "memory":
            self.memory.append(t.time)
            velocity = velocity * (1 + 1e-3 * len(self.memory))
        if self.fault == "levels":
            s.time -= 1e-3
        if self.fault == "batch":
            velocity = velocity + 1e-3 * velocity.mean()
        if self.fault == "dtype":
            return (x + (s.time - t.time) * velocity).double(), None
        dt = (s.time - t.time) * (1.05 if self.fault == "step size" else 1.0)
        return x + dt * velocity, None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("twice", "counts"),
        ("mutates", "shapes"),
        ("global", "shapes"),
        ("memory", "repeats"),
        ("levels", "a Sampler used again"),
        ("batch", "batches"),
        ("dtype", "shapes"),
        ("step size", "order"),
    ],
)
def test_the_kit_finds_a_fault(fault: str, said: str) -> None:
    with pytest.raises(ConformanceError, match=said):
        check_solver(_Faulty(fault))


@dataclass(frozen=True)
class _Drawn(sd.Solver):
    """The ancestral step, with a kernel of another width."""

    width: float = 1.0
    stochastic = True

    def kernel(self, model: Any, x: Any, t: Any, s: Any, state: Any = None) -> Any:
        exact = sd.solver("ancestral").kernel(model, x, t, s)
        return exact._replace(std=self.width * exact.std)

    def step(self, model: Any, x: Any, t: Any, s: Any, state: Any, noise: Any) -> Any:
        return sd.solver("ancestral").step(model, x, t, s, state, noise)


def test_the_kit_finds_a_kernel_that_is_not_the_steps() -> None:
    assert "mean + std z is the step" in [check.detail for check in check_solver(_Drawn())]
    with pytest.raises(ConformanceError, match=r"kernel.*mean, its std or its history is another"):
        check_solver(_Drawn(1.01))


def test_the_kit_passes_a_sound_solver_and_refuses_what_is_none() -> None:
    assert len(check_solver(_Faulty())) == 11

    with pytest.raises(TypeError, match="a name or a Solver object"):
        check_solver(type("Open", (), {})())  # type: ignore[arg-type]
