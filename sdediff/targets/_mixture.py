"""Mixtures of Gaussians, exact under every linear process, and the network that knows one.

Noise keeps a mixture of Gaussians one: if x0 has components N(m_k, C_k), x_t = alpha x0 + sigma eps has
N(alpha m_k, S_k) with S_k = alpha^2 C_k + sigma^2 I. So samples, densities, scores and denoisers are closed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.tensors import times64
from sdediff.model.score_model import ScoreModel
from sdediff.noise.philox import indices, normals, uniforms
from sdediff.sde.base import LinearSDE
from sdediff.targets._net import ExactNet, alpha_sigma, flat_states

# A stream of the counter that no level and no stream of noise.py reaches: data and noise share no draw.
_DATA = (0xFFFFFFFD, 0)


@dataclass(frozen=True, eq=False)
class Mixture:
    """K Gaussians in D dimensions with closed samples, density, score and denoiser; states are (B, *shape).

    weights (K,), means (K, D); C_k = diag(variances[k]) with variances (K, D), or with a basis (K, D, r) of
    orthonormal columns C_k = V_k diag(variances[k]) V_k^T + floor[k] I with variances (K, r), floor (K,).
    All float64. `index` and `seed` of `sample` are as in sdediff.noise.counter; times t are floats or (B,) tensors.
    Raises ValueError where shapes do not fit or a weight or variance is not positive.
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
        away = self.means - self.mean.reshape(-1)
        within = sum(w * self.spread(k, torch.eye(self.dim).double(), _same) for k, w in enumerate(self.weights))
        return within + away.T @ (self.weights[:, None] * away)

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

    def spread(self, k: int, rows: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
        """gain(C_k) applied to rows (B, D); gain maps eigenvalues (R,) to (R,) or (B, R)."""
        if self.basis is None or self.floor is None:
            return rows * gain(self.variances[k].to(rows.device))
        vectors, floor = self.basis[k].to(rows.device), self.floor[k : k + 1].to(rows.device)
        inside = rows @ vectors
        rest = (rows - inside @ vectors.T) * gain(floor)
        return rest + (inside * gain(self.variances[k].to(rows.device) + floor)) @ vectors.T

    def sample(
        self, n: int, seed: int = 0, index: int | Sequence[int] = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """n exact samples (n, *shape); sample i depends on (seed, index + i) alone, to the bit."""
        if n < 1 or not 0 <= seed < 2**64:
            raise ValueError(f"sample needs n >= 1 and a seed in [0, 2**64), given n={n}, seed={seed}")
        ids, rank = indices(index, n), 0 if self.basis is None else self.variances.shape[1]
        which = torch.from_numpy(uniforms(seed, ids, _DATA, ()))
        k = torch.searchsorted(self.weights.cumsum(0)[:-1].contiguous(), which, right=True)
        z = torch.from_numpy(normals(seed, ids, _DATA, (self.dim + rank,))).double()
        own = self.variances if self.floor is None else self.floor[:, None]
        x = self.means[k] + own.sqrt()[k] * z[:, : self.dim]
        for j in range(rank):  # a matrix product's last bits depend on the number of its rows
            x = x + (self.basis[:, :, j] * self.variances[:, j : j + 1].sqrt())[k] * z[:, self.dim + j, None]  # type: ignore[index]
        return x.to(dtype).reshape(n, *self.shape)

    def log_prob(self, x: Tensor, sde: LinearSDE | None = None, t: Any = None) -> Tensor:
        """log density of clean states, or of p_t under a process, at x (B, *shape): nats, float64 (B,).

        At t = T this is the exact prior. Differentiable in x and t.
        """
        if (sde is None) != (t is None):
            raise ValueError("log_prob takes a process and a time together, or neither for clean data")
        rows = flat_states(x, self.shape).double()
        one = torch.ones(1, 1, dtype=torch.float64, device=x.device)
        alpha, sigma = (one, 0 * one) if sde is None else alpha_sigma(sde, t, x)
        values, counts = (v.to(x.device) for v in self.eigenvalues)
        logs = []
        for k, (weight, mean) in enumerate(zip(self.weights.tolist(), self.means.to(x.device), strict=True)):
            white = self.spread(k, rows - alpha * mean, lambda c: (alpha**2 * c + sigma**2).rsqrt())
            log_det = (counts * torch.log(alpha**2 * values[k] + sigma**2)).sum(1)
            logs.append(math.log(weight) - 0.5 * (white.square().sum(1) + log_det))
        return torch.logsumexp(torch.stack(logs, 1), 1) - 0.5 * self.dim * math.log(2 * math.pi)

    def score(self, x: Tensor, sde: LinearSDE, t: Any) -> Tensor:
        """The gradient of log p_t at x (B, *shape), shaped and typed like x."""
        return ExactNet(self, sde).to(x.device).average(x, t, "score")

    def denoised(self, x: Tensor, sde: LinearSDE, t: Any) -> Tensor:
        """E[x0 | x_t = x] at x (B, *shape), shaped and typed like x."""
        return ExactNet(self, sde).to(x.device).average(x, t, "x0")

    def model(self, sde: LinearSDE) -> ScoreModel:
        """The exact score network under a process; it says v, finite at both ends of every process."""
        return ScoreModel(ExactNet(self, sde), sde, predicts="v", time="t")

    def flow(self, x: Tensor, sde: LinearSDE, t: Any, s: Any) -> Tensor:
        """The exact probability flow of one Gaussian from states x (B, *shape) at t to time s.

        x_s = alpha_s m + ((alpha_s^2 C + sigma_s^2) (alpha_t^2 C + sigma_t^2)^-1)^(1/2) (x - alpha_t m).
        """
        if len(self.weights) != 1:
            raise ValueError(f"flow is closed for one Gaussian alone, this mixture has {len(self.weights)}")
        rows = flat_states(x, self.shape).double()
        (a, b), (c, d) = alpha_sigma(sde, t, x), alpha_sigma(sde, s, x)
        mean = self.means.to(x.device)
        moved = self.spread(0, rows - a * mean, lambda v: ((c**2 * v + d**2) / (a**2 * v + b**2)).sqrt())
        return (c * mean + moved).to(x.dtype).reshape(x.shape)


def _same(eigenvalues: Tensor) -> Tensor:
    return eigenvalues


def _check(m: Mixture) -> None:
    """Every tensor of a mixture against the means' (K, D); raises ValueError."""
    if m.means.ndim != 2 or 0 in m.means.shape or not bool(m.means.isfinite().all()):
        raise ValueError(f"means must be finite, (K, D) for K components, given the shape {tuple(m.means.shape)}")
    count, dim = m.means.shape
    if m.weights.shape != (count,) or not bool((m.weights > 0).all()) or abs(m.weights.sum().item() - 1) > 1e-6:
        raise ValueError(f"needed {count} positive weights that sum to 1, given {m.weights.tolist()}")
    if (m.basis is None) != (m.floor is None):
        raise ValueError("a basis and a floor come together: give both, or diagonal variances (K, D) alone")
    rank = dim if m.basis is None else m.variances.shape[-1]
    needed = {"variances": (count, rank), "basis": (count, dim, rank), "floor": (count,)}
    for name, shape in needed.items():
        value = getattr(m, name)
        if value is not None and tuple(value.shape) != shape:
            raise ValueError(f"{name} must have the shape {shape}, given {tuple(value.shape)}")
    if m.basis is not None:
        slip = (m.basis.transpose(1, 2) @ m.basis - torch.eye(rank).double()).abs()
        if rank and not slip.max() < 1e-6:
            raise ValueError("the columns of every basis must be orthonormal: take them from torch.linalg.qr")
    low = m.variances if m.floor is None else m.floor
    if not (bool((low > 0).all()) and bool((m.variances >= 0).all()) and bool(m.variances.isfinite().all())):
        raise ValueError(f"variances and floors must be positive and finite, given down to {low.min().item()}")


def _check_shape(shape: tuple[int, ...], dim: int) -> None:
    if math.prod(shape) != dim:
        raise ValueError(f"states of shape {shape} have {math.prod(shape)} numbers, the means have {dim}")
