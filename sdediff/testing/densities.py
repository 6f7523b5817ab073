"""The check of a solver's kernel against its step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sdediff.sampling.api import SampleRecord
from sdediff.solvers import Solver
from sdediff.testing.report import expect


def kernel_is_the_step(s: Solver, run: Callable[..., SampleRecord]) -> str:
    """The steps drawn from a solver's kernels are its own, history included. run: a short run with more options."""
    if s.no_kernel:
        return f"not checked: {s.no_kernel}"
    if getattr(s, "within", None) is not None:
        return "not checked: some steps add no noise"
    plain, drawn = run(), run(log_prob="steps")
    gap = (plain.trajectory - drawn.trajectory).abs().max().item()
    expect(gap < 1e-9, f"mean + std z differs from the step by {gap:.1e}: its mean, its std or its history is another")
    log_prob: Any = drawn.log_prob
    expect(bool(torch.isfinite(log_prob).all()), "the log density of a step is not finite")
    return "mean + std z is the step"
