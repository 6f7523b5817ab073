"""From figures to one sentence: is the network wired right?"""

from __future__ import annotations

from typing import NamedTuple

from sdediff.wiring.readings import Estimate, Reading

# Below, a network is its own best linear reading; up to the second, nearly so.
RIGHT, NEARLY = 0.012, 0.03
# What the output must know beyond Gaussian data, and the gain that shows that a network was trained.
KNOWS, TRAINED = 0.03, 0.03
# The fewest rows for the gap, and for the gain.
FEWEST, ENOUGH = 50, 100
# Where to go on when no reading of the output is right.
SEARCH = ": sd.infer(network, data) tries the usual ones"


class LevelRow(NamedTuple):
    """One noise level, errors as E|x0_hat - x0|^2 over the data's variance.

    kappa: sigma/alpha; scale: that over the data's standard deviation. error: of the network as it is read; gaussian:
    of the best Gaussian denoiser; free: of the best linear reading of the output.
    """

    kappa: float
    scale: float
    time: float
    error: float
    gaussian: float
    free: float
    info: float
    gap: float


class Judgement(NamedTuple):
    """status: right, nearly, gaussian, misread or nothing; verdict: a sentence with its figures."""

    status: str
    verdict: str


def judge(
    own: str, gain: Estimate, gap: Estimate, info: float, rows: int, best: Reading, write: str | None
) -> Judgement:
    """The verdict on a network that is read as `own`, whose best reading is `best`; write: what would mend it."""
    enough = rows >= ENOUGH
    gaps, gains = f"gap {_figure(gap)}", f"gain {_figure(gain)}"
    figures = f"{gaps}, {gains}" if enough else f"{gaps} on {rows} rows"
    if info > KNOWS:
        better = gain.value < -TRAINED - 3 * gain.error or not enough
        if better and gap.value < RIGHT:
            means = "the network beats the best Gaussian denoiser as it is read"
            return Judgement("right", f"Trained and wired right: {means} ({figures}).")
        if better and gap.value <= NEARLY:
            means = "the network is almost its own best linear reading"
            return Judgement("nearly", f"Wired right or nearly so: {means} ({figures}).")
        means = "The output knows the data but is read wrongly"
        if gap.value <= NEARLY:
            means = "The output knows the data, yet the network is no better than the best Gaussian denoiser"
        return Judgement("misread", f"{means} ({figures}, info {info:.2g}): {_mend(own, gap, best, write)}.")
    if abs(gain.value) <= TRAINED + 3 * gain.error and gap.value <= NEARLY + 3 * gap.error:
        means = "As good as the best Gaussian denoiser and no better"
        either = "the data are Gaussian, or the network learnt no more of them; the wiring fits as far as that shows"
        return Judgement("gaussian", f"{means} ({gains}): {either}.")
    means = "Nothing that the network learnt about these data shows"
    where = f"the data's range, the schedule or the clock is wrong, or it is untrained{SEARCH}"
    mend = f"write {write}" if write else where
    return Judgement("nothing", f"{means} (info {info:.2g}, {gaps}): {mend}.")


def _mend(own: str, gap: Estimate, best: Reading, write: str | None) -> str:
    """What to write, or where to look."""
    if write:
        return f"write {write}"
    where = "the data's range or levels, the schedule or the clock is wrong"
    if gap.value <= NEARLY and best.predicts == own:
        return f"{where}, or it is trained too little{SEARCH}"
    if best.predicts != own and best.gap < 0.5 * gap.value:
        return f'predicts="{best.predicts}" leaves a gap of {best.gap:.2g}, and {where} besides{SEARCH}'
    return where + SEARCH


def _figure(estimate: Estimate) -> str:
    return f"{estimate.value:.2g} +- {estimate.error:.1g}"
