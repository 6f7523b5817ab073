"""Processes: how data becomes noise.

A linear process is its pair alpha(t), sigma(t) on [0, T], x_t = alpha(t) x0 + sigma(t) eps; everything else
(drift, diffusion, half log-SNR and its inverse, transition kernel, prior, reverse-time processes) follows
from the pair and its derivatives. Any other process gives `drift` and `diffusion` alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import known, shown, states
from sdediff._utils.errors import Error
from sdediff._utils.roots import falling_root
from sdediff._utils.tensors import normal_log_prob, per_sample, times64
from sdediff.sde.coefficients import Kernel, Reverse, Schedule, drift_and_diffusion

# Where log(alpha) has fallen so far, a sample does not tell data from none.
NOTHING_LEFT = -10.0
Score = Callable[[Tensor, Any], Tensor]


class SDEError(Error, ValueError):
    """A process cannot give what was asked of it; the message says why and what to use."""


def linear(sde: SDE) -> LinearSDE:
    """The process as one with alpha and sigma; SDEError where it has neither."""
    if not isinstance(sde, LinearSDE):
        raise SDEError(
            f"{type(sde).__name__} gives drift and diffusion alone: write it as a LinearSDE with alpha(t) and sigma(t)"
        )
    return sde


class ClassDefault(float):
    """A time that was not given: the number that a class takes for it, and None in a folder."""


class SDE(ABC):
    """dx = drift(x, t) dt + diffusion(t) dw for t in [0, T].

    Times are float64: floats or (B,) tensors. `t_min` is where sampling stops, `T` where it starts, and
    `grid` the natural grid in between. A `t_min` that a process states is where likelihoods start, too: a network that
    was trained down to it is not evaluated below.
    A process with no more than these two methods works with Euler-Maruyama and the black-box solvers.
    """

    T: float = 1.0
    t_min: float = ClassDefault(1e-3)
    linear: ClassVar[bool] = False
    grid: ClassVar[str] = "uniform"

    @abstractmethod
    def drift(self, x: Tensor, t: Any) -> Tensor:
        """The drift at states x (B, ...) and time t, shaped like x."""

    @abstractmethod
    def diffusion(self, t: Any) -> Tensor:
        """The scalar diffusion coefficient g(t), float64, shaped like t."""

    def reverse(self, score: Score, eta: float = 1.0) -> Reverse:
        """The family that shares the marginals: drift - (1 + eta^2)/2 g^2 score and diffusion eta g.

        eta = 1 is the reverse-time SDE, eta = 0 the probability-flow ODE. Song et al. 2021, eq. 6 and 13.
        score: (x, t) -> tensor shaped like x.
        """

        def drift(x: Tensor, t: Any) -> Tensor:
            g2 = per_sample(times64(self.diffusion(t)) ** 2, x)
            return self.drift(x, t) - (1 + eta**2) / 2 * g2 * score(x, t)

        return Reverse(drift, lambda t: eta * times64(self.diffusion(t)))

    def within(self, t: Any) -> Tensor:
        """Times as float64, refused outside of [0, T]."""
        times, edge = times64(t), 1e-9 * self.T
        # Inside of vmap numbers have no truth; they were looked at where they came from.
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor(times)
        if not (wrapped or bool(((times >= -edge) & (times <= self.T + edge)).all())):
            raise SDEError(f"t={shown(t)} lies outside of the times of {type(self).__name__}, [0, {self.T}]")
        return times

    @property
    def t0(self) -> float:
        """The time at which log_likelihood starts by default: t_min, or 1e-5 where that was not given."""
        return min(self.t_min, 1e-5) if isinstance(self.t_min, ClassDefault) else self.t_min

    @property
    def t_max(self) -> float:
        """The last time at which every coefficient is finite: T, or just below it where alpha(T) = 0."""
        return self.T


class LinearSDE(SDE):
    """A process given by two methods, alpha(t) and sigma(t), of float64 tensors of times.

    x_t = alpha(t) x0 + sigma(t) eps, lam = log(alpha / sigma) strictly decreasing,
    f = alpha'/alpha, g^2 = 2 sigma (sigma' - f sigma). Derivatives come from automatic differentiation.
    """

    linear = True

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The scale of the data at float64 times t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The scale of the noise at float64 times t; positive from t_min on."""

    @property
    def t_max(self) -> float:
        return self.last_start(NOTHING_LEFT)

    def last_start(self, lam: float) -> float:
        """The last time at which alpha is exp(lam) or more: T, or where it falls below, so that data hardly show.

        Just below T where alpha(T) = 0 and nowhere else so small.
        """
        alpha = self.alpha(times64([self.T])).item()
        if alpha >= math.exp(lam):
            return self.T
        end = self.T if alpha > 0 else self.T * (1 - 1e-3)
        return min(end, self.t_of_lam(torch.tensor(lam, dtype=torch.float64)).item())

    def schedule(self, t: Any) -> Schedule:
        """Every coefficient at times t, float64."""
        times = self.within(t)
        values, slopes = self.values(times), self.slopes(times)
        return Schedule(times, *values, *slopes, *drift_and_diffusion(*values[:2], *slopes))

    def slopes(self, t: Any) -> tuple[Tensor, Tensor]:
        """d alpha/dt and d sigma/dt at times t, float64, by automatic differentiation."""
        learned = torch.is_grad_enabled() and isinstance(self, torch.nn.Module)
        # A tensor made in inference mode has no slopes, so they are taken outside of it, of a copy.
        with torch.inference_mode(mode=False), torch.enable_grad():
            times = times64(t).detach()
            at = [times.clone().requires_grad_(True) for _ in range(2)]
            values, slopes = (self.alpha(at[0]), self.sigma(at[1])), list[Tensor | None]([None, None])
            moving = [i for i in range(2) if values[i].requires_grad]
            if moving:
                ones, leaves = [torch.ones_like(times)] * len(moving), [at[i] for i in moving]
                gradients = torch.autograd.grad(
                    [values[i] for i in moving], leaves, ones, create_graph=learned, allow_unused=True
                )
                for i, slope in zip(moving, gradients, strict=True):
                    slopes[i] = slope
        alpha, sigma = (torch.zeros_like(v) if d is None else d for v, d in zip(values, slopes, strict=True))
        return alpha, sigma

    def lam(self, t: Any) -> Tensor:
        """Half the log-SNR, log(alpha / sigma), float64."""
        times = self.within(t)
        return torch.log(self.alpha(times)) - torch.log(self.sigma(times))

    def values(self, t: Any) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, sigma and lam at times t, float64."""
        times = times64(t)
        alpha, sigma = self.alpha(times), self.sigma(times)
        own = type(self).lam is not LinearSDE.lam
        try:
            return alpha, sigma, self.lam(times) if own else torch.log(alpha) - torch.log(sigma)
        except TypeError as error:
            given = f"{type(alpha).__name__} and {type(sigma).__name__}"
            raise SDEError(
                f"alpha(t) and sigma(t) of {type(self).__name__} gave {given}: needed are float64 tensors like t"
            ) from error

    def t_of_lam(self, lam: Any) -> Tensor:
        """The time at which lam(t) = lam, by safeguarded Newton steps to float64 accuracy; clamped to [0, T]."""
        target = times64(lam)
        return self._inverse(target.detach().cpu().numpy()).to(target.device)

    def times_between(self, start: float, stop: float, place: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        """The times of a grid by half the log-SNR: where lam is place(lam at start and at stop), float64."""
        if type(self).t_of_lam is LinearSDE.t_of_lam:
            return self._inverse(place, (start, stop), exact=False)  # the ends are evaluated with its table
        with np.errstate(all="ignore"):  # lam may be infinite at the start
            lams = place(self.values([start, stop])[2].detach().numpy())
        return self.t_of_lam(torch.from_numpy(lams))

    def times_at(self, lams: np.ndarray) -> np.ndarray:
        """`t_of_lam` as exact as a grid's times, which smooth processes give to rounding with half of the work."""
        own = type(self).t_of_lam is not LinearSDE.t_of_lam
        times: np.ndarray = (self.t_of_lam(lams) if own else self._inverse(lams, exact=False)).detach().numpy()
        return times

    def _inverse(self, lams: Any, ends: Sequence[float] = (), exact: bool = True) -> Tensor:
        def lam(times: np.ndarray) -> np.ndarray:
            values: np.ndarray = self.values(torch.from_numpy(times))[2].detach().numpy()
            return values

        return torch.from_numpy(falling_root(lam, lams, self.T, ends, exact))

    def drift(self, x: Tensor, t: Any) -> Tensor:
        return per_sample(self.schedule(t).f, x) * x

    def diffusion(self, t: Any) -> Tensor:
        return self.schedule(t).g2.sqrt()

    def marginal(self, t: Any) -> Kernel:
        """x_t given x0: scale alpha(t), standard deviation sigma(t)."""
        times = self.within(t)
        return Kernel(self.alpha(times), self.sigma(times))

    def transition(self, s: Any, t: Any) -> Kernel:
        """x_t given x_s for s < t: scale alpha_t/alpha_s, variance sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2."""
        early, late = self.within(s), self.within(t)
        if bool((early > late).any()):
            raise SDEError(f"transition(s, t) goes forward in time, given s={s} > t={t}: swap them")
        drop = self.lam(late) - self.lam(early)
        std = self.sigma(late) * torch.sqrt(-torch.expm1(2 * drop))
        return Kernel(self.alpha(late) / self.alpha(early), std)

    def prior_std(self, prior: str = "sigma") -> float:
        """Standard deviation of the prior: "sigma" is N(0, sigma_T^2 I), "unit" score_sde's N(0, I).

        `Error` for "unit" where sigma_T is beyond .5 to 2, as of VE.
        """
        if not known(prior, ("sigma", "unit")):
            raise SDEError(f'prior={shown(prior)}: write "sigma" for N(0, sigma_T^2 I) or "unit" for N(0, I)')
        std = self.sigma(times64([self.T])).item()
        if prior == "unit" and not 0.5 <= std <= 2:
            raise SDEError(f'prior="unit" is N(0, I), and {self!r} ends at N(0, {std:.4g}^2 I): write prior="sigma"')
        return 1.0 if prior == "unit" else std

    def prior_sample(self, z: Tensor, prior: str = "sigma") -> Tensor:
        """Prior states from unit normals z (B, ...)."""
        return self.prior_std(prior) * states("z", z)

    def prior_log_prob(self, x: Tensor, prior: str = "sigma") -> Tensor:
        """log density of states x (B, ...) under the prior, nats, float64 (B,)."""
        return normal_log_prob(x, self.prior_std(prior))
