"""Where a run begins by default, and the warning of steps that are too large for its solver."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence

from torch import Tensor

from sdediff._utils.errors import StepsWarning, WiringWarning
from sdediff._utils.tensors import times64
from sdediff.grids.grids import make_grid
from sdediff.grids.levels import Level
from sdediff.model.ends import end_points, scale_of
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.trial import growth, trial_stds
from sdediff.sde.base import NOTHING_LEFT, linear
from sdediff.solvers import Solver, SolverError
from sdediff.solvers import solver as registered

# Where log(alpha) ends below the first, a solver in eps begins where it is the second, as for VP and DDPM at T.
_TINY, _USUAL = -7.0, -5.3
# The most and the least that a run's output may be of the truth on Gaussian data, the second for runs of some steps
# (one or two give a mean, as all know); and the most that it may be off in the run that is proposed instead.
_TOO_LARGE, _TOO_SMALL, _FEW, _GOOD = 1.5, 0.22, 3, 1.25
_GOOD_AT_FEW = "dpmpp_2m"
_COUNTS = (5, 7, 10, 15, 20, 30, 50, 100, 200)


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


def check_alone(solver: Solver) -> None:
    """Refuse a corrector that would have to go from noise to data by itself."""
    if not solver.alone:
        raise SolverError(
            f"{solver!r} is a corrector, which leaves p_t as it is and does not take noise to data by itself: "
            "write solver='predictor_corrector', which has its option corrector, or 'annealed_langevin'"
        )


def warn_of_ends(model: ScoreModel) -> None:
    """Warn of a process whose ends do not fit the scale of the data, by the model's statistics or its card's range."""
    std = scale_of(model)
    for finding in () if std is None else end_points(model, std):
        warnings.warn(finding[:1].upper() + finding[1:] + ".", WiringWarning, stacklevel=4)


def warn_of_strain(solver: Solver, levels: Sequence[Level]) -> bool:
    """Warn of steps that are longer than the solver bears; whether it did."""
    strain, t, s = max(((solver.strain(t, s), t, s) for t, s in itertools.pairwise(levels)), key=lambda step: step[0])
    if not 1 < strain < math.inf:  # where alpha is 0 the step itself refuses to begin
        return False
    # Steps of even rise, half as long as the solver bears.
    count = math.ceil(2 * strain * (levels[-1].lam - levels[0].lam) / (s.lam - t.lam))
    warnings.warn(
        f"{solver!r} is not stable over a step as from t={t.time:.6g} to t={s.time:.6g}, {strain:.2g} times as "
        f"long as its errors bear: write grid='log_snr' and steps={count}, or another solver",
        StepsWarning,
        stacklevel=3,
    )
    return True


def warn_of_size(solver: Solver, model: ScoreModel, times: Tensor, denoise: bool, levels: Sequence[Level]) -> None:
    """Warn of a short run whose output has another size than the data, by a trial on Gaussian data of their scale."""
    steps = len(times) - 1
    if steps > solver.tried or solver.adaptive or not solver.alone or times[0] < times[-1]:  # a rising run encodes
        return
    for std in trial_stds(model):
        ratio = growth(solver, model.sde, times, denoise, std, levels)
        if ratio > _TOO_LARGE or (ratio < _TOO_SMALL and steps >= _FEW):
            warnings.warn(
                f"{solver!r} is not accurate in {steps} step{'s' * (steps > 1)} as from t={times[0].item():.6g} to "
                f"t={times[-1].item():.6g}, on Gaussian data of standard deviation {std:.3g} its output is "
                f"{ratio:.2g} times as wide as it should be: write {_remedy(solver, model, times, denoise, std)}",
                StepsWarning,
                stacklevel=3,
            )
            return


def _remedy(solver: Solver, model: ScoreModel, times: Tensor, denoise: bool, std: float) -> str:
    """The least of a few numbers of even steps over the log-SNR in which the same trial has the right size."""
    start, stop = times[0].item(), times[-1].item()
    other = "another solver" if solver == registered(_GOOD_AT_FEW) else f"another solver, such as {_GOOD_AT_FEW!r}"
    if all(map(math.isfinite, linear(model.sde).lam(times[[0, -1]]).tolist())):
        for count in _COUNTS:
            even = make_grid("log_snr", model.sde, count, start, stop)
            if count >= len(times) and 1 / _GOOD < growth(solver, model.sde, even, denoise, std) < _GOOD:
                return f"grid='log_snr' and steps={count}, or {other}"
    return f"more steps, or {other}"
