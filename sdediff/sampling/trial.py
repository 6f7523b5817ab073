"""A trial of a short run on Gaussian data, whose exact model costs no network: does its output have the right size?"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff.grids.levels import Evaluation, Level
from sdediff.model.bound import BoundModel
from sdediff.model.ends import scale_of
from sdediff.model.prediction import LinearPrediction
from sdediff.model.score_model import ScoreModel
from sdediff.noise.stream import Stream
from sdediff.sde.base import SDE
from sdediff.solvers import Solver
from sdediff.solvers.base import set_coefficients
from sdediff.solvers.kernel import NO_NOISE

# The usual deviations of data where nothing says what it is, and the number of samples where noise is drawn: their
# deviation is known to 4 %.
_STDS, _SAMPLES = (0.5, 1.0), 256


def trial_stds(model: ScoreModel) -> tuple[float, ...]:
    """The standard deviations of the data of a trial: by statistics, card or `sigma_data`, else .5 and 1."""
    known = scale_of(model)
    if known is not None and 0 < known < math.inf:
        return (known,)
    return (model.sigma_data,) if model.predicts.lstrip("-") == "edm" else _STDS


def growth(
    solver: Solver,
    sde: SDE,
    times: Sequence[float] | Tensor,
    denoise: bool,
    std: float,
    levels: Sequence[Level] | None = None,
) -> float:
    """The deviation of the run's output over the truth, for data of N(0, std^2) in one dimension.

    Exact for a linear deterministic solver; a stochastic one draws 256 samples. NaN where the solver serves no states
    of one dimension: its hyper-parameters may be arrays that belong to the data. levels: those of the times, where they
    are known: a step that is one `mix` needs no more, and is tried on numbers in a tenth of the time.
    """
    found = None if levels is None else by_numbers(solver, levels, denoise, std)
    return by_states(solver, sde, times, denoise, std) if found is None else found


@torch.no_grad()
def by_states(solver: Solver, sde: SDE, times: Sequence[float] | Tensor, denoise: bool, std: float) -> float:
    """`growth` by a run on tensors, which serves every solver."""
    try:
        states, truth = _output(solver, _gaussian(sde, std), times, denoise, std)
    except Exception:
        return math.nan
    ratio = states.double().square().mean().sqrt().item() / truth
    return ratio if math.isfinite(ratio) else math.inf


def by_numbers(solver: Solver, levels: Sequence[Level], denoise: bool, std: float) -> float | None:
    """`growth` by numbers alone, of a deterministic solver whose step is one `mix`; None of others."""
    if solver.stochastic or solver.corrector:
        return None
    first, last = levels[0], levels[-1]
    x: Any = math.hypot(first.alpha * std, first.sigma)
    model: Any = functools.partial(_Mixed, std)
    try:
        state = None
        for t, s in itertools.pairwise(levels):
            x, state = solver.step(model, x, t, s, state, NO_NOISE)
        ratio = abs(model(x, last).mix(x0=1.0)) / std if denoise else abs(x) / math.hypot(last.alpha * std, last.sigma)
    except Exception:
        return None
    return ratio if math.isfinite(ratio) else math.inf


class _Mixed:
    """The exact prediction of N(0, std^2) at a number x, of which steps take sums of quantities and nothing else."""

    def __init__(self, std: float, x: float, t: Level) -> None:
        self.x = x
        on_x0 = t.alpha * std**2 / ((t.alpha * std) ** 2 + t.sigma**2)
        number: Any = x  # pairs of coefficients do not look at the state
        self._quantities = LinearPrediction(number, number, t, on_x0, 0.0, None)

    def mix(self, c: float = 0.0, **weights: float) -> float:
        """c x + sum of weight times quantity."""
        for name, weight in weights.items():
            c += weight * self._quantities.pair(name)[0]
        return self.x * c


def _gaussian(sde: SDE, std: float) -> ScoreModel:
    """The exact model of N(0, std^2): the network of an EDM preconditioning at this deviation is zero."""
    return ScoreModel(_zero, sde, predicts="edm", time="t", sigma_data=std)


def _zero(x: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x)


def _output(
    solver: Solver, model: ScoreModel, times: Sequence[float] | Tensor, denoise: bool, std: float
) -> tuple[Tensor, float]:
    """The states at the end of a run, and their true deviation: that of the data, or of x_t at the last level."""
    evaluation = Evaluation(model.sde)
    levels: tuple[Level, ...] = evaluation.at(times, 0)
    steps = [(t, t) for t in levels] if solver.corrector else list(itertools.pairwise(levels))
    if not solver.corrector:
        solver.visit(evaluation, steps)
    noise, first = Stream(0), levels[0]
    x = noise.initial(torch.empty(_SAMPLES, 1)) if solver.stochastic else torch.tensor([[1.0], [-1.0]])
    x = x * math.hypot(first.alpha * std, first.sigma)
    bound = BoundModel(model, evaluation, x)
    set_coefficients(solver, bound, levels)
    state = None
    for t, s in steps:
        bound.first = None
        x, state = solver.step(bound, x, t, s, state, noise)
    last = levels[-1]
    return (bound(x, last).x0, std) if denoise else (x, math.hypot(last.alpha * std, last.sigma))
