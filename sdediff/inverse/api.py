"""The verbs of inverse problems: `solve`, `inpaint` and `colourise`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import shown, states
from sdediff._utils.errors import InputError, InputTypeError
from sdediff.grids.grids import GridLike
from sdediff.inverse.methods import applied, method
from sdediff.inverse.operators import Grey, Mask, Operator, Problem
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.sampling.api import sample
from sdediff.solvers import Solver
from sdediff.solvers import solver as solver_of


def solve(
    model: ScoreModel | str,
    problem: Problem,
    samples: int = 1,
    *,
    by: str = "tmpd",
    solver: str | Solver | None = None,
    steps: int | None = None,
    grid: GridLike | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    shape: Sequence[int] | None = None,
    **options: Any,
) -> Tensor:
    """Samples (samples, *shape) of x0 given y = A x0 + noise, by a method of `inverse.METHODS`.

    by: replacement, repaint, dps, mcg, pigdm, tmpd, diffpir or ddrm; options are the method's. solver: by default the
    one that the method was published with; others where the two go together. shape: of one state, where the operator
    does not say it. With noise=0 and a linear operator A x = y holds exactly in what is returned. No method samples the
    posterior exactly: docs/inverse_problems.md has their errors.
    """
    model = check_model(model)
    if not isinstance(problem, Problem):
        raise InputTypeError(f"problem={shown(problem)}: write inverse.Problem(operator, y, noise)")
    operator = problem.operator
    size = operator.shape if isinstance(operator, Operator) else shape
    if size is None:
        raise InputError("the operator is a plain function: give shape=, that of one state")
    used = solver_of(method(by).default if solver is None else solver)
    if by == "diffpir" and solver is None:
        used = solver_of("renoise", zeta=1.0)
    model, used = applied(by, model, used, problem, options)
    x = sample(
        model, (samples, *size), solver=used, steps=steps, grid=grid, seed=seed, index=index, cond=cond, dtype=dtype,
        device=device,
    )  # fmt: skip
    return with_known(problem, x) if isinstance(operator, Operator) and not problem.noise else x


def with_known(problem: Problem, x: Tensor) -> Tensor:
    """x with A x = y: what is seen of it set to the measurement; the known values of a mask to the bit."""
    operator = problem.linear("with_known")
    if isinstance(operator, Mask):
        flat = x.flatten(1).clone()
        known = operator.known.reshape(-1).to(x.device)
        flat[:, known] = problem.y.to(flat).expand(len(flat), -1)
        return flat.reshape(x.shape)
    return x + operator.states(problem.target(operator, x) - operator.seen(x))


def inpaint(model: ScoreModel | str, image: Tensor, known: Tensor, *, by: str = "repaint", **options: Any) -> Tensor:
    """Images (B, *shape) whose values where `known` (*shape) is True are those of `image` (B, *shape), to the bit.

    by and options as in `solve`. The known values are set once more after the last step.
    """
    states("image", image)
    mask = Mask(known)
    if tuple(image.shape[1:]) != mask.shape:
        raise InputError(f"known has the shape {mask.shape} for images {tuple(image.shape[1:])}: give one for a state")
    return solve(model, Problem(mask, mask(image)), len(image), by=by, dtype=image.dtype, **options)


def colourise(
    model: ScoreModel | str, grey: Tensor, *, channels: int = 3, by: str = "repaint", **options: Any
) -> Tensor:
    """Images (B, channels, H, W) whose mean over the channels is `grey` (B, 1, H, W) or (B, H, W).

    by and options as in `solve`. An orthogonal transform of the channels makes it inpainting. Song et al. 2021.
    """
    states("grey", grey)
    plane = grey[:, None] if grey.ndim == 3 else grey
    if plane.ndim != 4 or plane.shape[1] != 1:
        raise InputError(f"grey has the shape {tuple(grey.shape)}: give grey images (B, 1, H, W)")
    problem = Problem(Grey((channels, *plane.shape[2:])), plane.flatten(1))
    return solve(model, problem, len(plane), by=by, dtype=grey.dtype, **options)
