"""Mixtures of Gaussians, whose samples, density, score and denoiser are exact under every process with alpha and sigma.

A noised mixture is again a mixture: if x0 has components N(m_k, C_k), then x_t = alpha x0 + sigma eps has components
N(alpha m_k, S_k) with S_k = alpha^2 C_k + sigma^2 I. All of these quantities therefore have a closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import state_dtype, states, whole
from sdediff._utils.errors import InputError
from sdediff._utils.tensors import times64
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import indices, normals, uniforms
from sdediff.sde.base import LinearSDE
from sdediff.targets.exact_network import ExactNet, alpha_sigma, flat_states

# A stream of the counter that no Noise uses, so that data and noise are independent.
_DATA = (0xFFFFFFFD, 0)


@dataclass(frozen=True, eq=False, repr=False)
class Mixture:
    """K Gaussians in D dimensions with exact samples, density, score and denoiser; states are (B, *shape).

    weights (K,), means (K, D); C_k = diag(variances[k]) with variances (K, D), or with a basis (K, D, r) of
    orthonormal columns C_k = V_k diag(variances[k]) V_k^T + floor[k] I with variances (K, r), floor (K,).
    All float64; times t are floats or (B,) tensors. Raises ValueError where shapes do not fit or a weight or a
    variance is not positive.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    basis: Tensor | None = None
    floor: Tensor | None = None
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("weights", "means", "variances", "basis", "floor"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, times64(getattr(self, name)).detach())
        _check(self)
        object.__setattr__(self, "weights", self.weights / self.weights.sum())
        object.__setattr__(self, "shape", tuple(self.shape) or (self.dim,))
        _check_shape(self.shape, self.dim)

    def __repr__(self) -> str:
        rank = "" if self.basis is None else f", rank={self.variances.shape[1]}"
        return f"Mixture(components={len(self.weights)}, shape={self.shape}{rank})"

    @property
    def dim(self) -> int:
        """D, the number of dimensions of a state."""
        return self.means.shape[1]

    @property
    def mean(self) -> Tensor:
        """The mixture's mean (*shape)."""
        return (self.weights @ self.means).reshape(self.shape)

    @property
    def cov(self) -> Tensor:
        """The mixture's covariance (D, D) of flattened states."""
        offsets = self.means - self.mean.reshape(-1)
        identity = torch.eye(self.dim).double()
        within = sum(w * self.apply_covariance(k, identity, _same) for k, w in enumerate(self.weights))
        return within + offsets.T @ (self.weights[:, None] * offsets)

    @property
    def spectrum(self) -> Tensor:
        """The eigenvalues (D,) of `cov`, largest first."""
        return torch.linalg.eigvalsh(self.cov).flip(0)

    @property
    def eigenvalues(self) -> tuple[Tensor, Tensor]:
        """Distinct eigenvalues of every C_k, (K, R), and how often each counts, (R,)."""
        if self.floor is None:
            return self.variances, torch.ones(self.dim).double()
        rank, floor = self.variances.shape[1], self.floor[:, None]
        counts = torch.tensor([1.0] * rank + [self.dim - rank]).double()
        return torch.cat([self.variances + floor, floor], 1), counts

    def apply_covariance(self, k: int, rows: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
        """gain(C_k) applied to rows (B, D); gain maps eigenvalues (R,) to (R,) or (B, R)."""
        if self.basis is None or self.floor is None:
            return rows * gain(self.variances[k].to(rows.device))
        vectors, floor = self.basis[k].to(rows.device), self.floor[k : k + 1].to(rows.device)
        projected = rows @ vectors
        remainder = (rows - projected @ vectors.T) * gain(floor)
        return remainder + (projected * gain(self.variances[k].to(rows.device) + floor)) @ vectors.T

    def sample(
        self, n: int, seed: int = 0, index: int | Sequence[int] = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """n exact samples (n, *shape); sample i depends on (seed, index + i) alone, to the bit."""
        n, seed = whole("n", n), whole("seed", seed)
        state_dtype(dtype)
        if n < 1 or not 0 <= seed < 2**64:
            raise InputError(f"sample needs n >= 1 and a seed in [0, 2**64), given n={n}, seed={seed}")
        ids, rank = indices(index, n), 0 if self.basis is None else self.variances.shape[1]
        u = torch.from_numpy(uniforms(seed, ids, _DATA, ()))
        k = torch.searchsorted(self.weights.cumsum(0)[:-1].contiguous(), u, right=True)
        z = torch.from_numpy(normals(seed, ids, _DATA, (self.dim + rank,))).double()
        diagonal = self.variances if self.floor is None else self.floor[:, None]
        x = self.means[k] + diagonal.sqrt()[k] * z[:, : self.dim]
        for j in range(rank):  # not one matrix product: its last bits depend on the number of rows
            x = x + (self.basis[:, :, j] * self.variances[:, j : j + 1].sqrt())[k] * z[:, self.dim + j, None]  # type: ignore[index]
        return x.to(dtype).reshape(n, *self.shape)

    def log_prob(self, x: Tensor, sde: LinearSDE | None = None, t: Any = None) -> Tensor:
        """log density of clean states, or of p_t under a process, at x (B, *shape): nats, float64 (B,).

        At t = T this is the exact prior. Differentiable in x and t.
        """
        if (sde is None) != (t is None):
            raise InputError("log_prob takes a process and a time together, or neither for clean data")
        rows = flat_states(states("x", x), self.shape).double()
        one = torch.ones(1, 1, dtype=torch.float64, device=x.device)
        alpha, sigma = (one, 0 * one) if sde is None else alpha_sigma(sde, t, x)
        values, counts = (v.to(x.device) for v in self.eigenvalues)
        logs = []
        for k, (weight, mean) in enumerate(zip(self.weights.tolist(), self.means.to(x.device), strict=True)):
            white = self.apply_covariance(k, rows - alpha * mean, lambda c: (alpha**2 * c + sigma**2).rsqrt())
            log_det = (counts * torch.log(alpha**2 * values[k] + sigma**2)).sum(1)
            logs.append(math.log(weight) - 0.5 * (white.square().sum(1) + log_det))
        return torch.logsumexp(torch.stack(logs, 1), 1) - 0.5 * self.dim * math.log(2 * math.pi)

    def score(self, x: Tensor, sde: LinearSDE, t: Any) -> Tensor:
        """The gradient of log p_t at x (B, *shape), shaped and typed like x."""
        return self._network(sde).to(x.device).average(states("x", x), t, "score")

    def denoised(self, x: Tensor, sde: LinearSDE, t: Any) -> Tensor:
        """E[x0 | x_t = x] at x (B, *shape), shaped and typed like x."""
        return self._network(sde).to(x.device).average(states("x", x), t, "x0")

    def model(self, sde: LinearSDE) -> ScoreModel:
        """The exact score network under a process. It predicts v, which is finite at both ends of every process."""
        return ScoreModel(self._network(sde), sde, predicts="v", time="t")

    def _network(self, sde: LinearSDE) -> ExactNet:
        return ExactNet(sde, self.shape, self.weights, self.means, *self.eigenvalues, basis=self.basis)

    def flow(self, x: Tensor, sde: LinearSDE, t: Any, s: Any) -> Tensor:
        """The exact probability flow of one Gaussian from states x (B, *shape) at t to time s.

        x_s = alpha_s m + ((alpha_s^2 C + sigma_s^2) (alpha_t^2 C + sigma_t^2)^-1)^(1/2) (x - alpha_t m).
        """
        if len(self.weights) != 1:
            raise InputError(f"the flow has a closed form for one Gaussian only, this mixture has {len(self.weights)}")
        rows = flat_states(x, self.shape).double()
        (a, b), (c, d) = alpha_sigma(sde, t, x), alpha_sigma(sde, s, x)
        mean = self.means.to(x.device)
        deviation = self.apply_covariance(0, rows - a * mean, lambda v: ((c**2 * v + d**2) / (a**2 * v + b**2)).sqrt())
        return (c * mean + deviation).to(x.dtype).reshape(x.shape)


def _same(eigenvalues: Tensor) -> Tensor:
    return eigenvalues


def _check(m: Mixture) -> None:
    """Check the shape and range of every tensor of a mixture against (K, D) of its means; raises ValueError."""
    if m.means.ndim != 2 or 0 in m.means.shape or not bool(m.means.isfinite().all()):
        raise InputError(f"means must be finite, (K, D) for K components, given the shape {tuple(m.means.shape)}")
    count, dim = m.means.shape
    if m.weights.shape != (count,) or not bool((m.weights > 0).all()) or abs(m.weights.sum().item() - 1) > 1e-6:
        raise InputError(f"needed {count} positive weights that sum to 1, given {m.weights.tolist()}")
    if (m.basis is None) != (m.floor is None):
        raise InputError("a basis and a floor belong together: give both, or diagonal variances (K, D) alone")
    rank = dim if m.basis is None else m.variances.shape[-1]
    needed = {"variances": (count, rank), "basis": (count, dim, rank), "floor": (count,)}
    for name, shape in needed.items():
        value = getattr(m, name)
        if value is not None and tuple(value.shape) != shape:
            raise InputError(f"{name} must have the shape {shape}, given {tuple(value.shape)}")
    if m.basis is not None:
        deviation = (m.basis.transpose(1, 2) @ m.basis - torch.eye(rank).double()).abs()
        if rank and not deviation.max() < 1e-6:
            raise InputError("the columns of every basis must be orthonormal: take them from torch.linalg.qr")
    smallest = m.variances if m.floor is None else m.floor
    if not (bool((smallest > 0).all()) and bool((m.variances >= 0).all()) and bool(m.variances.isfinite().all())):
        raise InputError(f"variances and floors must be positive and finite, given down to {smallest.min().item()}")


def _check_shape(shape: tuple[int, ...], dim: int) -> None:
    if math.prod(shape) != dim:
        raise InputError(f"states of shape {shape} have {math.prod(shape)} numbers, the means have {dim}")
