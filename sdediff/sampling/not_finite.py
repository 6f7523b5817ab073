"""Errors of a run: where NaN or infinity began, and where its process has no noise that rises with time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from sdediff.grids.levels import Level
from sdediff.sde.base import SDE, SDEError
from sdediff.solvers import SolverError


def not_falling(sde: SDE, levels: Sequence[Level]) -> SDEError:
    """The error of a process whose log(alpha/sigma) does not fall with time over the levels of a run."""
    for one, two in itertools.pairwise(sorted(levels, key=lambda level: level.time)):
        if not one.lam > two.lam:
            break
    return SDEError(
        f"{type(sde).__name__} is no process between t={one.time:.6g} and t={two.time:.6g}: log(alpha/sigma) goes from "
        f"{one.lam:.6g} to {two.lam:.6g} where it must fall (alpha {one.alpha:.3g} to {two.alpha:.3g}, sigma "
        f"{one.sigma:.3g} to {two.sigma:.3g})"
    )


def lost(states_again: Iterable[Any], solver: Any) -> SolverError:
    """The error of a run that ended in NaN or infinity: it is walked again to name the step where they appeared."""
    before = None
    for state in states_again:
        rows = (~torch.isfinite(state.x.detach()).flatten(1).all(1)).nonzero().flatten().tolist()
        if rows:
            where = f"in step {state.t.index} from t={before.time:.6g} to t={state.t.time:.6g}" if before else "at once"
            return SolverError(
                f"{solver!r} reached NaN or infinity {where} ({len(rows)} of {len(state.x)} samples, first {rows[0]}): "
                "look at what the network returns there"
            )
        before = state.t
    time = before.time if before else None
    return SolverError(
        f"the network returned NaN or infinity at t={time:.6g}, in the last jump to data: look at it there"
    )
