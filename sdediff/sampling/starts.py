"""Where a run begins by default, and the warning of steps that are too large for its solver."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence

from sdediff._utils.errors import StepsWarning, WiringWarning
from sdediff._utils.tensors import times64
from sdediff.grids.levels import Level
from sdediff.model.ends import end_points, scale_of
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import NOTHING_LEFT, linear
from sdediff.solvers import Solver

# Where log(alpha) ends below the first, a solver in eps begins where it is the second, as for VP and DDPM at T.
_TINY, _USUAL = -7.0, -5.3


def default_start(solver: Solver, model: ScoreModel) -> float:
    """Where a run begins.

    A solver that extrapolates eps over a step multiplies its error by the rise of alpha, so it does not begin where
    alpha is tiny. Where alpha(T) = 0 a run begins at T if solver and network can.
    """
    sde = linear(model.sde)
    if not solver.at_zero_alpha:
        before_tiny = sde.last_start(_TINY)
        if before_tiny == sde.T:
            return sde.T
        return sde.last_start(_USUAL) if before_tiny < sde.t_max else sde.t_max
    latest = sde.t_max
    if latest == sde.T or not model.at_zero_alpha:
        return latest
    end, before = sde.alpha(times64([sde.T, latest])).tolist()
    if end > 0 or before < math.exp(NOTHING_LEFT) * (1 + 1e-6):
        return latest
    # What follows the flow in t needs its slope there.
    slope = 0.0 if solver.needs_alpha else sde.slopes([sde.T])[0].item()
    return sde.T if math.isfinite(slope) else latest


def warn_of_ends(model: ScoreModel) -> None:
    """Warn of a process whose ends do not fit the scale of the data, by the model's statistics or its card's range."""
    std = scale_of(model)
    for finding in () if std is None else end_points(model, std):
        warnings.warn(finding[:1].upper() + finding[1:] + ".", WiringWarning, stacklevel=4)


def warn_of_strain(solver: Solver, levels: Sequence[Level]) -> None:
    """Warn of steps that are longer than the solver bears."""
    strain, t, s = max(((solver.strain(t, s), t, s) for t, s in itertools.pairwise(levels)), key=lambda step: step[0])
    if 1 < strain < math.inf:  # where alpha is 0 the step itself refuses to begin
        # Steps of even rise, half as long as the solver bears.
        count = math.ceil(2 * strain * (levels[-1].lam - levels[0].lam) / (s.lam - t.lam))
        warnings.warn(
            f"{solver!r} is not stable over a step as from t={t.time:.6g} to t={s.time:.6g}, {strain:.2g} times as "
            f"long as its errors bear: write grid='log_snr' and steps={count}, or another solver",
            StepsWarning,
            stacklevel=2,
        )
