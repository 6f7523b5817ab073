"""What a sweep runs on: a model, the data that it should give, and real data of another draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff import hub
from sdediff._utils.suggestions import nearest
from sdediff.model.score_model import ScoreModel
from sdediff.sde.processes import VP
from sdediff.solvers import ODE, Solver, solver
from sdediff.targets import PROBLEMS, problem

# "digits" is the default network under a short name.
_SHORT = {"digits": "digits-vp"}
_TRUTH = 4000


class Reference(NamedTuple):
    """How the exact flow is computed: a solver, its calls where it does not choose them, and the states' dtype."""

    solver: Solver
    calls: int | None = None
    dtype: torch.dtype | None = None


# A network is too rough for a high order to pay: on the digits this is within 2e-5 of DOP853 at 1e-8.
_FINE = Reference(solver("dpmpp_2m"), 400)


@dataclass(frozen=True, eq=False)
class Problem:
    """A model, data truth (N, *shape) that its samples are measured against, and real data (M, *shape).

    real: a draw independent of truth, whose own distance is the floor; samples: how many a solver draws
    unless told otherwise. reference: what stands for the exact flow.
    """

    name: str
    model: ScoreModel
    truth: Tensor
    real: Tensor
    samples: int = 200
    reference: Reference = _FINE

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return tuple(self.truth.shape[1:])

    def describe(self) -> str:
        """What was run, in one line: the network by class and size, the process and parametrisation by value."""
        net, model = self.model.net, self.model
        size = sum(p.numel() for p in net.parameters()) if isinstance(net, torch.nn.Module) else 0
        name = type(net).__name__ + (f" of {size} parameters" if size else "")
        moved = f", trained on {model.trained!r}" if model.trained is not None else ""
        return f"ScoreModel({name}, {model.sde!r}, predicts={model.predicts!r}, time={model.time!r}{moved})"


def found(kind: str | Problem, device: Any = None, dtype: torch.dtype | None = None) -> Problem:
    """A problem by name: a mixture of sdediff.targets under VP, or a model of the package with its data."""
    if isinstance(kind, Problem):
        return kind
    if not isinstance(kind, str):
        raise TypeError(f"a problem is a name or a benchmark.Problem, given {type(kind).__name__}")
    if kind in PROBLEMS:
        return _mixture(kind, device, dtype)
    name = _SHORT.get(kind, kind)
    if name not in hub.models():
        raise ValueError(nearest(kind, {*PROBLEMS, *hub.models(), *_SHORT}, "problem"))
    return _network(kind, name, device, dtype)


def _mixture(name: str, device: Any, dtype: torch.dtype | None) -> Problem:
    target, kind = problem(name), dtype or torch.get_default_dtype()
    model = target.model(VP())
    model.net.to(device or "cpu")  # type: ignore[attr-defined]
    truth, real = (target.sample(_TRUTH, index=first, dtype=kind) for first in (0, _TRUTH))
    tight = Reference(ODE("DOP853", 1e-8, 1e-8), None, torch.float64)
    return Problem(name, model, truth, real, 400, tight)


def _network(name: str, stored: str, device: Any, dtype: torch.dtype | None) -> Problem:
    model = hub.load(stored, device or "cpu", dtype)
    about = model.card.get("data") or {}
    low, high = about.get("range", (-1.0, 1.0))
    truth, real = (hub.data(about["name"], split).dequantised(range=(low, high)) for split in ("test", "train"))
    return Problem(name, model, truth, real)
