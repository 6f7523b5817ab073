"""A process whose schedule is learned: the monotone gamma network of variational diffusion models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sdediff._utils.checks import flag, number, real_tensor, shown, whole
from sdediff.sde.base import ClassDefault, LinearSDE, SDEError

_WEIGHTS = ("slope", "inner", "inner_bias", "outer")


class LearnedVP(nn.Module, LinearSDE):
    """alpha^2 = sigmoid(-gamma(t)), sigma^2 = sigmoid(gamma(t)), gamma rising from gamma0 to gamma1 on [0, 1].

    gamma(t) = gamma0 + (gamma1 - gamma0) r(t), r = (c(t) - c(0))/(c(1) - c(0)) with the monotone network
    c(t) = |a| t + sum |w_k| tanh((|u_k| (2 t - 1) + b_k)/2)/width, so that the ends stay where they are whatever is
    learned in between. Kingma et al. 2021, appendix H. learn_ends: whether gamma0 and gamma1 are parameters. seed: of
    the first weights; weights: those of a trained schedule, by name. All in float64.
    """

    T = 1.0
    t_min = ClassDefault(1e-5)
    grid = "log_snr"

    def __init__(
        self,
        gamma0: float = -13.3,
        gamma1: float = 5.0,
        width: int = 64,
        learn_ends: bool = False,
        seed: int = 0,
        weights: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        gamma0, gamma1 = number("gamma0", gamma0), number("gamma1", gamma1)
        if not gamma0 < gamma1:
            raise SDEError(f"gamma0={gamma0}, gamma1={gamma1}: needed is gamma0 < gamma1, data before noise")
        flag("learn_ends", learn_ends)
        self.width = whole("width", width, 1)
        if self.width > 1 << 20 or whole("seed", seed, 0) >= 1 << 63:
            raise SDEError(f"width={width}, seed={seed}: give at most 2**20 and 2**63 - 1")
        if not (weights is None or isinstance(weights, Mapping)):
            raise SDEError(f"weights={shown(weights)}: give a dictionary of names and rows of numbers")
        ends = nn.Parameter(torch.tensor([gamma0, gamma1], dtype=torch.float64), requires_grad=learn_ends)
        self.ends = ends
        generator = torch.Generator().manual_seed(whole("seed", seed, 0))
        first = {
            "slope": torch.full((1,), gamma1 - gamma0, dtype=torch.float64),
            **{name: torch.randn(width, generator=generator, dtype=torch.float64) for name in _WEIGHTS[1:]},
        }
        if weights is not None and not isinstance(weights, Mapping):
            raise SDEError(f"weights={shown(weights)}: give a dictionary of {', '.join(_WEIGHTS)}")
        for name in _WEIGHTS:
            value = first[name] if weights is None else real_tensor(name, weights.get(name, ()))
            if value.shape != first[name].shape or not bool(torch.isfinite(value).all()):
                raise SDEError(
                    f"weights {name!r} of shape {tuple(value.shape)}: give {len(first[name])} finite numbers"
                )
            setattr(self, name, nn.Parameter(value.clone()))

    def __repr__(self) -> str:
        low, high = self.ends.tolist()
        return f"LearnedVP(gamma0={low:.6g}, gamma1={high:.6g}, width={self.width})"

    @property
    def fields(self) -> dict[str, Any]:
        """The arguments that make the same process again, as plain values."""
        low, high = self.ends.tolist()
        weights = {name: getattr(self, name).tolist() for name in _WEIGHTS}
        learned = self.ends.requires_grad
        return {"gamma0": low, "gamma1": high, "width": self.width, "learn_ends": learned, "weights": weights}

    def rise(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """r(t) in [0, 1] and its slope dr/dt at float64 times t, differentiable in the weights."""
        return self._rise(t, *(getattr(self, name) for name in _WEIGHTS))

    def _rise(self, t: Tensor, slope: Tensor, inner: Tensor, bias: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
        slope, inner, outer = slope.abs(), inner.abs(), outer.abs() / self.width

        def value(at: Tensor) -> tuple[Tensor, Tensor]:
            bent = torch.tanh((inner * (2 * at[..., None] - 1) + bias) / 2)
            return slope * at + (outer * bent).sum(-1), slope + (outer * inner * (1 - bent.square())).sum(-1)

        ends, _ = value(torch.tensor([0.0, 1.0], dtype=torch.float64, device=t.device))
        at, rate = value(t)
        whole_rise = ends[1] - ends[0]
        return (at - ends[0]) / whole_rise, rate / whole_rise

    def gamma(self, t: Tensor) -> Tensor:
        """gamma(t) = -2 lam(t), float64, as samplers and likelihoods read it: without gradients of the weights."""
        low, high = self.ends.detach()
        return low + (high - low) * self._rise(t, *(getattr(self, name).detach() for name in _WEIGHTS))[0]

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-self.gamma(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sigmoid(self.gamma(t)).sqrt()


def first_gamma(levels: int, deviations: float = 3.0187) -> float:
    """gamma at t = 0 for which half a bin of `levels` levels on [-1, 1] is so many standard deviations of the noise.

    -13.3 for 256 levels, which is Kingma et al. 2021's; -7.876 for the 17 levels of the digits.
    """
    return 2 * math.log(1 / (whole("levels", levels, 2) * deviations))
