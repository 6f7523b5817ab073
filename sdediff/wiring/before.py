"""The check before long work: one loud line where the wiring or the data's preparation does not fit."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from sdediff._utils.errors import Error, WiringWarning
from sdediff.model.score_model import ScoreModel
from sdediff.wiring.checking import check

# The most rows of a check that comes before other work.
ROWS = 128


def misfit(
    model: ScoreModel,
    data: Any = None,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> str | None:
    """One line of what does not fit, by the check on up to 128 rows of data; None where nothing speaks against it.

    Without data the process's ends are compared alone. What cannot be checked, a process without alpha and sigma or
    outputs that are not finite, is left to the work that follows, which says it of the rows at fault.
    """
    if not model.sde.linear:
        return None
    try:
        report = check(model, data, cond=cond, rows=ROWS, dtype=dtype, device=device)
    except Error:
        return None
    if report.warning is None:
        return None
    measured = f" ({report.rows} rows, {report.calls} evaluations, {report.seconds:.1f} s)" if report.calls else ""
    return f"{report.warning}{measured}"


def warn_of_misfit(
    model: ScoreModel,
    data: Any = None,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
    depth: int = 3,
) -> None:
    """`misfit` as a WiringWarning. depth: frames up to the caller that the warning names."""
    line = misfit(model, data, cond, dtype, device)
    if line is not None:
        warnings.warn(f"{line} check=False leaves this out.", WiringWarning, stacklevel=depth)
