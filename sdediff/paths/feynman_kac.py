"""Sequential Monte Carlo over the steps of a stochastic solver: samples of a tilted law, and its evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import function, number, shown, state_shape
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.progress import track
from sdediff._utils.tensors import finite
from sdediff.grids.grids import GridLike
from sdediff.model.network import placement
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.noise.counter import Counter
from sdediff.paths.particles import Ancestry, Particles, systematic
from sdediff.paths.transitions import Chain, make_chain
from sdediff.paths.weights import importance
from sdediff.sampling.compatibility import refuse_stateful
from sdediff.sampling.run import make_plan
from sdediff.solvers import Solver, SolverError, StepKernel

LogTilt = Callable[[Tensor], Tensor]
Twist = Callable[[Prediction], Tensor]


def smc(
    model: ScoreModel | str,
    shape: Sequence[int],
    log_tilt: LogTilt,
    *,
    twist: str | Twist | None = None,
    proposal: ScoreModel | str | None = None,
    solver: str | Solver = "ancestral",
    steps: int | None = None,
    grid: GridLike | None = None,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
    threshold: float = 0.5,
    seed: int = 0,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool | None = None,
) -> Particles:
    """Weighted samples of p(x) G(x) / Z, p the law of a stochastic solver's samples, and Z: a Feynman-Kac model.

    shape: (particles, ...). log_tilt: log G of samples (K, ...), (K,) nats, such as a reward or a log likelihood.
    twist: log G_t of the prediction at a level, by which particles are weighted on the way; "denoised" takes log_tilt
    of x0; None weights at the end alone. proposal: a model, such as a guided one, whose steps move the particles; the
    weights make up for it. They are resampled where the effective sample size is below threshold times K. The chain's
    law p depends on its steps, and log_evidence is unbiased for it. cond and the other arguments are as in `sample`.
    Del Moral 2004; Wu et al. 2023, algorithm 1.
    """
    model, size = check_model(model), state_shape(shape)
    plan = make_plan(model, solver, steps=steps, grid=grid, start=start, stop=stop, denoise=denoise)
    if not 0 <= number("threshold", threshold) <= 1:
        raise InputError(f"threshold={threshold}: give a share of the particles, 0 for no resampling")
    function("log_tilt", log_tilt, 1)
    x = plan.prior(model, size, Counter(seed), placement(model, dtype, device))
    chains = [make_chain(model, plan, x, cond, warn=True)]
    if proposal is not None:
        proposal = check_model(proposal)
        chains.append(make_chain(proposal, plan, x, cond))
    for one in (model, proposal or model):
        refuse_stateful(one, "belongs to a particle no more once it is drawn anew")
    run = _Filter(chains, log_tilt, _twist(twist, log_tilt), threshold, seed, plan.denoise)
    with torch.no_grad():
        return run(x, progress)


def _twist(twist: Any, log_tilt: LogTilt) -> Twist | None:
    if twist == "denoised":
        return lambda prediction: log_tilt(prediction.x0)
    if twist is not None and not callable(twist):
        raise InputTypeError(f"twist={shown(twist)}: write 'denoised', None, or give a function of the prediction")
    return twist


@dataclass(frozen=True)
class _Filter:
    """A run of particles. chains: of the model, and of the proposal where there is one."""

    chains: Sequence[Chain]
    log_tilt: LogTilt
    twist: Twist | None
    threshold: float
    seed: int
    denoise: bool

    def __call__(self, x: Tensor, progress: bool | None) -> Particles:
        count, chain, noise = len(x), self.chains[0], Counter(self.seed)
        log_weights, log_twist = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
        histories: list[Any] = [None for _ in self.chains]
        ancestry, log_evidence, sizes, resampled = Ancestry(count), 0.0, list[float](), list[bool]()
        for i, (t, s) in enumerate(track(chain.steps, len(chain.steps), "particles", progress)):
            chain.model.first = None
            kernels = [one.kernel(x, one.steps[i], past) for one, past in zip(self.chains, histories, strict=True)]
            if self.twist is not None:
                first: Any = chain.model.first
                before, log_twist = log_twist, _log(self.twist(first), count, "twist")
                log_weights = log_weights + (log_twist - before)
            worth = importance(log_weights)
            sizes.append(worth.ess)
            resampled.append(worth.ess < self.threshold * count)
            if resampled[-1]:
                places = systematic(worth.weights, count, self.seed, i)
                ancestry.resampled(worth.weights, places)
                kernels, log_twist = [kernel.rows(places.to(x.device)) for kernel in kernels], log_twist[places]
                log_evidence, log_weights = log_evidence + worth.log_mean, torch.zeros_like(log_weights)
            x = kernels[-1].draw(noise(t, s, kernels[-1].mean))
            if len(kernels) > 1:
                log_weights = log_weights + (_density(kernels[0], x) - _density(kernels[1], x))
            histories = [kernel.history for kernel in kernels]
        final = chain.model(x, s) if self.denoise else None
        x = x if final is None else final.x0
        if not finite(x):
            raise SolverError(f"{chain.solver!r} reached NaN or infinity: look at what the network returns")
        log_weights = log_weights + (_log(self.log_tilt(x), count, "log_tilt", least=-math.inf) - log_twist)
        worth = importance(log_weights)
        calls = sum((one.solver.spent(len(one.steps)) or 0) for one in self.chains) + self.denoise
        return Particles(
            x, worth.weights, log_evidence + worth.log_mean, math.sqrt(ancestry.variance(worth.weights)),
            torch.tensor([*sizes, worth.ess], dtype=torch.float64), torch.tensor(resampled), calls, self.seed,
        )  # fmt: skip


def _density(kernel: StepKernel, x: Tensor) -> Tensor:
    return kernel.log_prob(x).cpu()


def _log(values: Any, count: int, name: str, least: float = -1e300) -> Tensor:
    """Log weights (K,) that a caller's function gave."""
    if not isinstance(values, Tensor) or values.shape != (count,):
        given = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise InputError(f"{name} gave {given} for {count} particles: return one log weight a particle, ({count},)")
    values = values.detach().double().cpu()
    if bool((values >= least).logical_and(values < math.inf).all()):
        return values
    if least == -math.inf:
        raise InputError(f"{name} gave NaN or infinity: log weights are finite, or -inf for a weight of 0")
    raise InputError(f"{name} gave NaN or infinity: a weight of 0 on the way would lose samples, give finite numbers")
