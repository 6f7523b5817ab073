"""What a network's output means: parametrisations as affine pairs, and the record of one prediction.

Every parametrisation is one affine pair, x0 = a x + b F with F the raw output; every property of a
prediction is one linear combination of x and F with float64 coefficients.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import Error
from sdediff._utils.tensors import combine, per_sample
from sdediff.grids.levels import Level
from sdediff.sde.base import SDEError

VARIANCES = ("small", "large", "learned_range", "learned")


class ModelError(Error, ValueError):
    """A network and what was said about it do not fit; the message names the mismatch and the mend."""


# Products and square roots are rounded alike for floats, arrays and tensors; a float's powers are not.
def edm_scale(t: Level, sigma_data: float) -> Any:
    """The standard deviation of x_t for data of standard deviation sigma_data."""
    data = t.alpha * sigma_data
    variance = data * data + t.sigma * t.sigma
    return math.sqrt(variance) if isinstance(variance, float) else variance**0.5


def _edm(t: Level, sigma_data: float) -> tuple[Any, Any]:
    w = edm_scale(t, sigma_data)
    return t.alpha * (sigma_data * sigma_data) / (w * w), t.sigma * sigma_data / w


def _velocity(t: Level, sigma_data: float) -> tuple[Any, Any]:
    w = t.alpha * t.sigma_dot - t.alpha_dot * t.sigma
    return t.sigma_dot / w, -t.sigma / w


def _v(t: Level, sigma_data: float) -> tuple[Any, Any]:
    w2 = t.alpha * t.alpha + t.sigma * t.sigma
    return t.alpha / w2, -t.sigma / w2


# x0 = a x + b F: the whole definition of a parametrisation, from a level and sigma_data to (a, b).
PARAMETRISATIONS: dict[str, Callable[[Level, float], tuple[Any, Any]]] = {
    "x0": lambda t, sigma_data: (0.0, 1.0),
    "eps": lambda t, sigma_data: (1 / t.alpha, -t.sigma / t.alpha),
    "score": lambda t, sigma_data: (1 / t.alpha, t.sigma * t.sigma / t.alpha),
    "v": _v,
    "edm": _edm,
    "velocity": _velocity,
}
# Another name of a parametrisation of the reversed sign: sigma times the score is minus the noise.
ALIASES = {"sigma*score": "-eps"}


def spellings() -> list[str]:
    """All that `predicts` may say: the parametrisations, those of reversed sign, and their other names."""
    return [*PARAMETRISATIONS, *(f"-{name}" for name in PARAMETRISATIONS), *ALIASES]


def signed(predicts: str) -> tuple[str, int]:
    """The quantity that the output is, and its sign: ("eps", -1) of "-eps" and of "sigma*score"."""
    name = ALIASES.get(predicts, predicts)
    return (name[1:], -1) if name.startswith("-") else (name, 1)


class Prediction(ABC):
    """What a model predicts at (x, t): x0, eps, score, v and velocity, shaped like x.

    raw: the network's output F; extra: what it returned beyond F (a learned variance), or None; level: the process
    at t. Each quantity is p x + q F under a process with alpha and sigma (`LinearPrediction`).
    """

    __slots__ = ("extra", "level", "raw", "x")

    def __init__(self, x: Tensor, raw: Tensor, t: Level, extra: Any = None) -> None:
        self.x, self.raw, self.level, self.extra = x, raw, t, extra

    def __repr__(self) -> str:
        return f"{type(self).__name__}(states {tuple(self.x.shape)}, {self.level!r})"

    def reading(self, raw: Tensor, extra: Any = None) -> Prediction:
        """The same reading, at the same states, of another output shaped like this one's."""
        twin = copy.copy(self)
        twin.raw, twin.extra = raw, extra
        return twin

    @abstractmethod
    def pair(self, name: str) -> tuple[Any, Any]:
        """The coefficients (p, q) of a quantity, `name` = p x + q F; floats or (B,) float64."""

    @abstractmethod
    def mix(self, c: Any = 0.0, **weights: Any) -> Tensor:
        """c x + sum of weight times quantity, formed as one combination of x and F: mix(1, velocity=dt)."""

    @abstractmethod
    def scaled(self, **weights: float) -> tuple[float, Tensor]:
        """sum of weight times quantity as (factor, tensor), whose product it is: an addition less for a later sum."""

    @abstractmethod
    def factored(self, name: str) -> tuple[float, Tensor]:
        """One quantity as (factor, tensor), whose product it is."""

    @abstractmethod
    def _quantity(self, name: str) -> Tensor: ...

    def log_variance(self, kind: str, small: Any, large: Any) -> Any:
        """log of the variance of an ancestral step between the bounds small and large, numbers or (B,) tensors.

        kind: "small", "large", or by what the network returned beside F: "learned_range", exp(v log large +
        (1 - v) log small) with v = (output + 1)/2 (Nichol and Dhariwal 2021, eq. 15), "learned", the logarithm itself.
        """
        if kind in ("small", "large"):
            return _log(small if kind == "small" else large, self.x)
        learned = self.extra[0] if isinstance(self.extra, tuple) and len(self.extra) == 1 else self.extra
        if not isinstance(learned, Tensor) or learned.shape != self.x.shape:
            given = f"of shape {tuple(learned.shape)}" if isinstance(learned, Tensor) else type(learned).__name__
            raise ModelError(
                f"variance={kind!r} needs a network that returns 2C channels, or a pair of tensors shaped "
                f"like the state {tuple(self.x.shape)}, of which the second is the variance's: given {given}"
            )
        learned = learned.to(self.x.dtype)
        if kind == "learned":
            return learned
        low, high = _log(small, self.x), _log(large, self.x)
        return (high + low) / 2 + (high - low) / 2 * learned

    @property
    def x0(self) -> Tensor:
        """The denoised state E[x0 | x_t]."""
        return self._quantity("x0")

    @property
    def eps(self) -> Tensor:
        """The predicted noise (x - alpha x0) / sigma."""
        return self._quantity("eps")

    @property
    def score(self) -> Tensor:
        """The gradient of log p_t at x, -eps / sigma."""
        return self._quantity("score")

    @property
    def v(self) -> Tensor:
        """alpha eps - sigma x0. Salimans and Ho 2022."""
        return self._quantity("v")

    @property
    def velocity(self) -> Tensor:
        """The probability flow's dx/dt: alpha' x0 + sigma' eps = f x - g^2 score / 2."""
        return self._quantity("velocity")


def _log(variance: Any, x: Tensor) -> Any:
    """The logarithm of a number, or of (B,) numbers shaped to meet states x."""
    return per_sample(torch.log(variance), x) if isinstance(variance, Tensor) else math.log(variance)


def _at_zero(sigma: Any) -> bool:
    """Whether sigma, or that of any sample, is 0."""
    if not isinstance(sigma, Tensor):
        return isinstance(sigma, float) and not sigma
    # Inside of vmap numbers have no truth; they were looked at where they came from.
    return not torch._C._functorch.is_functorch_wrapped_tensor(sigma) and not bool(sigma.all())


class LinearPrediction(Prediction):
    """A prediction under a process with alpha and sigma, x0 = a x + b F.

    output: the quantity that F is, with a minus where its sign is reversed; None where it is none of this process.
    Raises SDEError where alpha = 0 and F does not determine what is asked for (a is None).
    """

    __slots__ = ("_a", "_b", "_output")

    def __init__(self, x: Tensor, raw: Tensor, t: Level, a: Any, b: Any, output: str | None, extra: Any = None) -> None:
        self.x, self.raw, self.level, self.extra = x, raw, t, extra
        self._a, self._b, self._output = a, b, output

    def pair(self, name: str) -> tuple[Any, Any]:
        if name == self._output:
            return 0.0, 1.0
        if "-" + name == self._output:
            return 0.0, -1.0
        t, a, b = self.level, self._a, self._b
        if (a is None or name != "x0") and _at_zero(t.sigma):
            raise SDEError(f"at t={t.time} sigma is 0, the output does not determine {name}: end above it, at t_min")
        if a is None:
            raise SDEError(
                f"at t={t.time} alpha is 0 and the network's output ({self._output}) does not determine {name}: start "
                "below it (start=sde.t_max) or use an x0, v, edm or velocity network"
            )
        if name == "x0":
            return a, b
        c, d = (1 - t.alpha * a) / t.sigma, -t.alpha * b / t.sigma
        if name == "eps":
            return c, d
        if name == "score":
            return -c / t.sigma, -d / t.sigma
        if name == "v":
            return t.alpha * c - t.sigma * a, t.alpha * d - t.sigma * b
        p, q = t.alpha_dot * a + t.sigma_dot * c, t.alpha_dot * b + t.sigma_dot * d
        if isinstance(q, float) and q - q != 0.0:
            raise SDEError(f"at t={t.time} alpha is 0 and the flow has no slope: start below it (start=sde.t_max)")
        return p, q

    def mix(self, c: Any = 0.0, **weights: Any) -> Tensor:
        p, q = self._sum(c, weights)
        return combine(p, self.x, q, self.raw)

    def _quantity(self, name: str) -> Tensor:
        p, q = self.pair(name)
        return combine(p, self.x, q, self.raw)

    def _sum(self, p: Any, weights: dict[str, Any]) -> tuple[Any, Any]:
        q: Any = 0.0
        for name, weight in weights.items():
            on_x, on_raw = self.pair(name)
            p, q = p + weight * on_x, q + weight * on_raw
        return p, q

    def scaled(self, **weights: float) -> tuple[float, Tensor]:
        return self._factored(*self._sum(0.0, weights))

    def factored(self, name: str) -> tuple[float, Tensor]:
        return (1.0, self.raw) if name == self._output else self._factored(*self.pair(name))

    def _factored(self, p: Any, q: Any) -> tuple[float, Tensor]:
        if isinstance(p, Tensor) or isinstance(q, Tensor):
            return 1.0, combine(p, self.x, q, self.raw)
        if abs(p) > abs(q):
            return p, torch.add(self.x, self.raw, alpha=q / p)
        return q, self.raw if p == 0.0 else torch.add(self.raw, self.x, alpha=p / q)
