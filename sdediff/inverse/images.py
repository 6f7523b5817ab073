"""From image to image: by noise of a chosen strength, or by the flow inverted and followed under other conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import number, states, whole
from sdediff._utils.errors import InputError
from sdediff.grids.grids import GridLike
from sdediff.grids.levels import Level, levels
from sdediff.model.bound import BoundModel
from sdediff.model.data_check import check_data
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.noise.counter import Counter
from sdediff.sampling.api import sample
from sdediff.sampling.run import check_eval, make_plan, make_table
from sdediff.sampling.sampler import Sampler
from sdediff.solvers import DDIM, Solver


def image_to_image(
    model: ScoreModel | str,
    image: Tensor,
    strength: float,
    *,
    solver: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    grid: GridLike | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    cond: dict[str, Any] | None = None,
) -> Tensor:
    """Images (B, ...) that are noised to the level that `strength` names and denoised from there.

    Of a run of N steps the last floor(N strength) are made: strength 1 begins at noise alone, small ones keep the
    image. seed, index: of the noise, as in `sample`. Meng et al. 2022 (SDEdit).
    """
    model, image = check_model(model), states("image", image)
    check_data(model, image, "image")
    if not 0 < number("strength", strength) <= 1:
        raise InputError(f"strength={strength}: give a number in (0, 1]")
    plan = Sampler(model, solver=solver, steps=steps, grid=grid).plan(image.shape, cond)
    made = steps_of(len(plan.times) - 1, strength)
    if not made:
        raise InputError(f"strength={strength} of {len(plan.times) - 1} steps leaves none to make: give more of one")
    times = plan.times[-1 - made :]
    start: Level = levels(model.sde, times[:1])[0]
    noise = start.sigma * Counter(seed, index).initial(image)
    x = noise if strength == 1 else start.alpha * image + noise
    return sample(model, x=x, solver=plan.solver, grid=times, seed=seed, index=index, cond=cond)


def steps_of(steps: int, strength: float) -> int:
    """floor(steps * strength), with products such as 50 * 0.58 and 100 * 0.29 not taken for less than 29."""
    return min(steps, int(steps * strength + 1e-9 * steps))


def invert(
    model: ScoreModel | str,
    image: Tensor,
    *,
    steps: int = 50,
    grid: GridLike | None = "log_snr",
    iterations: int = 10,
    cond: dict[str, Any] | None = None,
) -> Tensor:
    """The latent (B, ...) from which `sample(x=latent, solver="ddim", ...)` of the same grid comes back to the image.

    Each DDIM step is inverted by fixed-point iterations, x_t <- x_t + (sigma_t/sigma_s) (x_s - step(x_t)), which lead
    to an exact round trip where steps are short enough to contract; iterations=0 is explicit DDIM inversion, whose
    round trip is of order 1. `sd.encode` follows the flow with any solver. Mokady et al. 2023; Pan et al. 2023.
    """
    model, image = check_model(model), states("image", image)
    if image.requires_grad and torch.is_grad_enabled():
        raise InputError("image requires a gradient, which invert does not keep: write image.detach()")
    check_data(model, image, "image")
    whole("iterations", iterations, 0)
    bound = model._under(cond)
    plan = make_plan(bound, DDIM(), steps=None if _fixed(grid) else steps, grid=grid)
    check_eval(model)
    with torch.no_grad():
        table = make_table(bound, plan, image)
        x = image * table.levels[-1].alpha
        for s, t in zip(table.levels[:0:-1], table.levels[-2::-1], strict=True):
            x = _step_up(table.model, x, s, t, iterations)
    return x


def _step_up(model: BoundModel, x_s: Tensor, s: Level, t: Level, iterations: int) -> Tensor:
    """x_t whose DDIM step to s is x_s; explicit in the first iterate, whose prediction is made at s."""
    on_x, on_x0 = s.sigma / t.sigma, s.alpha - t.alpha * s.sigma / t.sigma
    x = (x_s - on_x0 * model(x_s, s).x0) / on_x
    first = last = 0.0
    for i in range(iterations):
        new = (x_s - on_x0 * model(x, t).x0) / on_x
        last, x = (new - x).abs().max().item(), new
        first = last if i == 0 else first
    if iterations > 2 and not last <= first:
        raise InputError(
            f"the step between t={s.time:.4g} and t={t.time:.4g} is too long to be inverted by fixed-point iterations, "
            "which move apart: give more steps, grid='log_snr', or iterations=0"
        )
    return x


def edit(
    model: ScoreModel | str,
    image: Tensor,
    source: dict[str, Any],
    target: dict[str, Any],
    *,
    steps: int = 50,
    grid: GridLike | None = "log_snr",
    iterations: int = 10,
    guided: ScoreModel | None = None,
) -> Tensor:
    """The image (B, ...) inverted under the conditions `source` and sampled again under `target`.

    guided: the model for the way back, such as guidance.classifier_free(model, 3.0); by default the model itself. The
    way there is never guided, since its latents would not be normal. Song et al. 2020, section 5.4.
    """
    model = check_model(model)
    latent = invert(model, image, steps=steps, grid=grid, iterations=iterations, cond=source)
    back = model if guided is None else check_model(guided)
    count = None if _fixed(grid) else steps
    return sample(back, x=latent, solver=DDIM(), steps=count, grid=grid, cond=target)


def _fixed(grid: Any) -> bool:
    return grid is not None and not isinstance(grid, str) and not callable(grid)
