"""The exact network of a mixture of Gaussians: conditional expectations of x0 and eps given x_t."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff._utils.tensors import times64
from sdediff.sde.base import LinearSDE

# Within a component each average is q m + h(C) S^-1 (x - alpha m): (q, h) from alpha, sigma, C's eigenvalues.
_AVERAGES: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Any]]] = {
    "score": lambda a, s, c: (torch.zeros_like(a), -1.0),
    "x0": lambda a, s, c: (torch.ones_like(a), a * c),
    "v": lambda a, s, c: (-s, a * s * (1 - c)),
}


class ExactNet(torch.nn.Module):
    """The exact network of a mixture: E[alpha eps - sigma x0 | x_t] from states (B, *shape) and t (B,).

    weights (K,), means (K, D); eigenvalues (K, R) of each covariance and how often each counts, multiplicity (R,);
    basis (K, D, r), or None for diagonal covariances. Coefficients and responsibilities are float64, the rest is in
    the states' dtype. The constants stay float64: `.to` changes the device only. No D x D matrix is built.
    """

    log_weights: Tensor
    means: Tensor
    values: Tensor
    halves: Tensor
    rows: Tensor
    offsets: Tensor
    squares: Tensor

    def __init__(
        self,
        sde: LinearSDE,
        shape: tuple[int, ...],
        weights: Tensor,
        means: Tensor,
        eigenvalues: Tensor,
        multiplicity: Tensor,
        basis: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.sde, self.shape, self.low_rank = sde, shape, basis is not None
        vectors = means[:, :, None][..., :0] if basis is None else basis
        constants = {
            "log_weights": weights.log(),
            "means": means,
            "values": eigenvalues,
            "halves": -0.5 * multiplicity,
            "rows": torch.cat([vectors.transpose(1, 2).reshape(-1, means.shape[1]), means]),
            "offsets": torch.einsum("kd,kdr->kr", means, vectors),
            "squares": means.square().sum(1),
        }
        for name, value in constants.items():
            self.register_buffer(name, value)

    def _apply(self, fn: Any, recurse: bool = True) -> ExactNet:
        # Constants in lower precision would lose digits and save little time.
        return super()._apply(lambda v: v.to(fn(torch.empty_like(v[:0])).device), recurse)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """v at states x (B, *shape) and times t (B,), shaped and typed like x."""
        return self.average(x, t, "v")

    def average(self, x: Tensor, t: Any, quantity: str) -> Tensor:
        """E[quantity | x_t = x], quantity one of v, x0, score; t a float or (B,)."""
        flat = flat_states(x, self.shape)
        rows = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
        alpha, sigma = (v.reshape(-1, 1, 1) for v in alpha_sigma(self.sde, _common(t), x))
        total = torch.addcmul(sigma * sigma, alpha * alpha, self.values)
        inverse = total.reciprocal()
        q, h = _AVERAGES[quantity](alpha, sigma, self.values)
        terms = _Terms(alpha, inverse, self.log_weights + torch.log(total) @ self.halves, q, h * inverse)
        mean = self._low_rank(rows, terms) if self.low_rank else self._diagonal(rows, terms)
        return mean.to(x.dtype).reshape(x.shape)

    def _diagonal(self, x: Tensor, c: _Terms) -> Tensor:
        # |x - alpha m|^2 / S is multiplied out, so that no tensor has B K D entries.
        wide, centres = x.double(), c.alpha * self.means
        pull = centres * c.inverse
        logs = c.constant - 0.5 * (centres * pull).sum(2) + _times(wide, pull.mT)
        share = _share(logs - 0.5 * _times(wide.square(), c.inverse.mT), x.dtype)
        fixed = (c.q * self.means - c.h * centres).to(x.dtype)
        return x * _times(share, c.h.to(x.dtype)) + _times(share, fixed)

    def _low_rank(self, x: Tensor, c: _Terms) -> Tensor:
        rows, (count, rank) = self.rows.to(x.dtype), self.offsets.shape
        products = x @ rows.T
        u = products[:, :-count].unflatten(1, (count, rank)) - (c.alpha * self.offsets).to(x.dtype)
        # |x - alpha m|^2 over the floor's variance, minus the correction inside the span of the basis.
        alpha, floor = c.alpha[..., 0], c.inverse[..., -1]
        pull = alpha * floor
        correction = (u * u * (c.inverse[..., :-1] - c.inverse[..., -1:]).to(x.dtype)).sum(2)
        quadratic = floor * x.square().sum(1, keepdim=True) + correction
        share = _share(
            c.constant - 0.5 * (alpha * pull * self.squares + quadratic) + pull * products[:, -count:], x.dtype
        )
        h = c.h.to(x.dtype)
        rest = share * h[..., -1]
        along = share[..., None] * u * (h[..., :-1] - h[..., -1:])
        centres = share * c.q[..., 0].to(x.dtype) - alpha.to(x.dtype) * rest
        return torch.addmm(x * rest.sum(1, keepdim=True), torch.cat([along.flatten(1), centres], 1), rows)


def _times(x: Tensor, m: Tensor) -> Tensor:
    """Rows x (B, I) through matrices m, (1, I, J) or (B, I, J): (B, J)."""
    return x @ m[0] if m.shape[0] == 1 else torch.bmm(x[:, None], m)[:, 0]


def _share(logs: Tensor, dtype: torch.dtype) -> Tensor:
    """softmax over the components (B, K); on rows this short it is faster than torch.softmax."""
    shares = (logs - logs.detach().amax(1, keepdim=True)).to(dtype).exp()
    return shares / shares.sum(1, keepdim=True)


class _Terms(NamedTuple):
    """The coefficients of `average` at one time, or one a sample: float64, (n, 1, 1) or (n, K, R); constant (n, K)."""

    alpha: Tensor
    inverse: Tensor
    constant: Tensor
    q: Tensor
    h: Tensor


def flat_states(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """States (B, *shape) as rows (B, D); raises ValueError on any other shape."""
    if tuple(x.shape[1:]) != shape or x.ndim == 0 or not x.is_floating_point():
        raise InputError(f"needed floating-point states (B, *{shape}), given {x.dtype} of shape {tuple(x.shape)}")
    return x.reshape(x.shape[0], -1)


def alpha_sigma(sde: LinearSDE, t: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """alpha(t) and sigma(t) as float64 columns, (1, 1) or (B, 1)."""
    if not getattr(sde, "linear", False):
        raise InputError(f"exact answers need alpha and sigma, which {type(sde).__name__} does not give")
    times = times64(t).reshape(-1)
    if times.shape[0] not in (1, x.shape[0]):
        raise InputError(f"needed one time or one a sample, given {times.shape[0]} for {x.shape[0]} states")
    return sde.alpha(times).to(x.device)[:, None], sde.sigma(times).to(x.device)[:, None]


def _common(t: Any) -> Any:
    """The first time only, where all are equal and this can be checked without synchronising with a device."""
    if not isinstance(t, Tensor) or t.ndim == 0 or len(t) < 2 or t.requires_grad:
        return t
    first = t[:1]
    if t.stride(0) == 0:
        return first
    if t.is_cuda or torch.compiler.is_compiling():
        return t
    try:
        return first if torch.equal(t, first.expand_as(t)) else t
    except RuntimeError:  # under vmap times have no values to compare
        return t
