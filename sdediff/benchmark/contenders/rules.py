"""Equal conditions for contenders, enforced: the rules, and one run that is held to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from sdediff._utils.checks import states, whole
from sdediff._utils.tensors import finite
from sdediff.benchmark.contenders.protocol import Contender, ContenderError, Finish
from sdediff.benchmark.contenders.watched import CallsSpent, Watch
from sdediff.grids.levels import level
from sdediff.model.score_model import ScoreModel, check_model

# What a run is held to, by the name that a refusal gives.
RULES = {
    "calls": "no more network evaluations than it was given, the last denoising one included",
    "count": "as many evaluations of the given model as it claims, and not none",
    "start": "begins from the states that it was given, at the time that it claims",
    "input": "leaves the states that it was given unchanged",
    "shape": "gives states of the shape and dtype that it was given",
    "finite": "gives finite states",
    "end": "ends at a time of the process",
    "deterministic": "gives the same states whatever the seed, unless it says that it is stochastic",
    "seed": "gives the same states for the same seed",
}


@dataclass(frozen=True)
class Outcome:
    """One run of a contender that kept the rules.

    x: its states (B, ...), at time_end: 0 for data, None unknown. time_start: where it began. time_last: the lowest
    time at which it evaluated the model. calls: counted. seconds: wall time without what translates between the
    library's frame and the model's; network_seconds: the part within the network. notes: what differs from a run from T
    to data, a sentence each.
    """

    label: str
    x: Tensor
    time_start: float
    time_end: float | None
    time_last: float | None
    calls: int
    seconds: float
    network_seconds: float
    notes: tuple[str, ...] = ()


def contend(
    contender: Contender, model: ScoreModel, x_T: Tensor, calls: int, seed: int = 0, *, repeat: bool = True
) -> Outcome:
    """Run a contender on states x_T (B, ...) drawn at T, and hold it to the RULES.

    model: with its conditions (`model.given`). calls: the network evaluations that it may make, its limit where it is
    adaptive. repeat: run it a second time to test what it claims of its noise, which costs as much again.
    ContenderError names the rule that it breaks; InputError: calls that are too few for it.
    """
    model, x_T, calls = check_model(model), states("x_T", x_T), whole("calls", calls, 1)
    start = float(contender.start(model, calls))
    x = _scaled(model, x_T, start)
    outcome = _run(contender, model, x, start, calls, seed)
    if repeat:
        again = _run(contender, model, x, start, calls, seed if contender.stochastic else seed + 1)
        _check_repeat(contender, outcome.x, again.x, seed)
    return outcome


def _scaled(model: ScoreModel, x_T: Tensor, start: float) -> Tensor:
    """The starting states at the contender's own first level: the same noise, scaled by sigma."""
    if start == model.sde.T or not model.sde.linear:
        return x_T.clone()
    first, last = level(model.sde, start), level(model.sde, float(model.sde.T))
    return x_T * (first.sigma / last.sigma)


def _run(contender: Contender, model: ScoreModel, x: Tensor, start: float, calls: int, seed: int) -> Outcome:
    watch, given = Watch(model, calls, x.device), x.clone()
    version = given._version
    with _seeded(seed, x.device), torch.no_grad():
        began = watch.network.now()
        try:
            finish = contender.run(watch.model, given, calls, seed)
        except CallsSpent as error:
            raise ContenderError(contender.label, "calls", f"it asked for {error}") from None
        seconds = watch.network.now() - began
    if given._version != version or not torch.equal(given, x):
        raise ContenderError(contender.label, "input", "the states that it was given have changed")
    _check_finish(contender, finish, x, calls, watch)
    _check_start(contender, watch, x, start)
    time_end = _check_end(contender, finish, model)
    return Outcome(
        contender.label, finish.x, start, time_end, watch.lowest, watch.calls, seconds - watch.network.bridge,
        watch.network.seconds, _notes(model, start, time_end, watch.lowest),
    )  # fmt: skip


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global generators at a seed, and as they were afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _check_finish(contender: Contender, finish: Finish, x: Tensor, calls: int, watch: Watch) -> None:
    label = contender.label
    if not isinstance(finish, Finish):
        raise ContenderError(label, "shape", f"it gave {type(finish).__name__}, needed is a benchmark.Finish")
    if watch.network.exceeded:
        raise ContenderError(label, "calls", f"it asked for more than the {calls} network evaluations that were given")
    if watch.calls == 0:
        raise ContenderError(label, "count", "it did not evaluate the model that it was given")
    if finish.calls is not None and finish.calls != watch.calls:
        raise ContenderError(label, "count", f"it claims {finish.calls} evaluations, counted were {watch.calls}")
    if not isinstance(finish.x, Tensor) or finish.x.shape != x.shape or finish.x.dtype != x.dtype:
        given = f"{finish.x.dtype} {tuple(finish.x.shape)}" if isinstance(finish.x, Tensor) else "no tensor"
        raise ContenderError(label, "shape", f"it gave {given}, the states were {x.dtype} {tuple(x.shape)}")
    if not finite(finish.x):
        rows = int((~torch.isfinite(finish.x).flatten(1).all(1)).sum())
        raise ContenderError(label, "finite", f"{rows} of {len(x)} states hold NaN or infinity")


def _check_start(contender: Contender, watch: Watch, x: Tensor, start: float) -> None:
    """The first evaluation must be at the given states, up to a factor; what is stochastic may add noise before it."""
    label = contender.label
    if watch.first is not None:
        seen, time = watch.first
        # Tables of other libraries are float32.
        if not contender.stochastic and abs(time - start) > 1e-3 * start:
            raise ContenderError(label, "start", f"its first evaluation is at t={time:.6g}, it claims t={start:.6g}")
    elif watch.network.first_input is not None:
        seen = watch.network.first_input
    else:
        return
    rows = x[: len(seen)].double().flatten()
    seen = seen.double().flatten()
    if rows.shape != seen.shape:
        raise ContenderError(label, "start", f"its first evaluation is of {seen.numel()} numbers, given {x.numel()}")
    likeness = float(rows @ seen / (rows.norm() * seen.norm()).clamp_min(1e-300))
    if likeness < (0.5 if contender.stochastic else 1 - 1e-4):
        raise ContenderError(
            label, "start", f"its first states have the correlation {likeness:.3f} with those that it was given"
        )


def _check_end(contender: Contender, finish: Finish, model: ScoreModel) -> float | None:
    end = finish.time_end
    if end is None:
        return None
    if not 0 <= float(end) <= model.sde.T * (1 + 1e-9):
        raise ContenderError(contender.label, "end", f"it ends at t={end}, the process's times are [0, {model.sde.T}]")
    return float(end)


def _check_repeat(contender: Contender, first: Tensor, second: Tensor, seed: int) -> None:
    """A second run must agree up to the rounding of the states' dtype."""
    gap = float((first.double() - second.double()).abs().max())
    if gap <= float(first.double().abs().max()) * torch.finfo(first.dtype).eps ** 0.5:
        return
    if contender.stochastic:
        raise ContenderError(contender.label, "seed", f"two runs with seed={seed} differ by {gap:.2g}")
    raise ContenderError(
        contender.label, "deterministic",
        f"it claims to draw no noise, and its runs with the seeds {seed} and {seed + 1} differ by {gap:.2g}",
    )  # fmt: skip


def _notes(model: ScoreModel, start: float, end: float | None, lowest: float | None) -> tuple[str, ...]:
    sde, notes = model.sde, []
    if start < sde.T * (1 - 1e-3):
        notes.append(f"starts at t={start:.4g} of {sde.T:g}, the states scaled to its level")
    if end is None or 0 < end < sde.t_min * (1 - 1e-3):
        notes.append("ends elsewhere")
    elif end > 0:
        notes.append(f"ends at t={end:.4g}, compared with the flow there")
    elif lowest is not None and lowest > sde.t_min + 1e-2 * (sde.T - sde.t_min):
        notes.append(f"jumps to data from t={lowest:.4g}")
    return tuple(notes)
