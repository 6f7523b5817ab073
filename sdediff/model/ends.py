"""The ends of a process compared with the scale of the data: what costs no network evaluation."""

from __future__ import annotations

import math

from sdediff.grids.levels import Evaluation
from sdediff.model.data_card import DataCard
from sdediff.model.score_model import ScoreModel

# sigma/alpha over the data's standard deviation: at least the first at t_max, at most the second at t_min.
_HIDDEN, _SEEN = 2.0, 0.5


def scale_of(model: ScoreModel) -> float | None:
    """The data's standard deviation by the model's statistics or by the range of its card; None where neither says."""
    if model.stats is not None:
        return model.stats.std
    bounds = DataCard.of(model.card).range
    return None if bounds is None else (bounds[1] - bounds[0]) / math.sqrt(12)


def end_points(model: ScoreModel, std: float) -> tuple[str, ...]:
    """What speaks against a process for data of this standard deviation, a sentence for each end."""
    sde = model.sde
    if not sde.linear or not std > 0:
        return ()
    sentence = (
        "at t={time:.4g}, where sampling {what}, sigma/alpha is {kappa:.4g}, {times:.2g} times the data's standard "
        "deviation {std:.3g}: the noise {so} the data"
    )
    (last, first), found = Evaluation(sde).at((sde.t_max, sde.t_min)), []
    for end, fault, what, so in (
        (last, last.kappa < _HIDDEN * std, "begins", "does not hide"),
        (first, first.kappa > _SEEN * std, "ends", "hides"),
    ):
        if fault:
            values = {"time": end.time, "kappa": end.kappa, "times": end.kappa / std, "std": std}
            found.append(sentence.format(what=what, so=so, **values))
    return tuple(found)
