"""Steps of the whitened basis where the data have many scales, each evaluated at a few nodes of a step.

With S one scale, w^2 = (alpha S)^2 + sigma^2 and kappa = sigma/alpha, an output P = x0 - S^2 (alpha/sigma) eps is the
velocity of x/w over the angle atan(kappa/S) times -w S/sigma, and a step is

    x_s = (w_s/w_t) x + w_s sum_j P_j sigma_j/w_j int l_j(lam) kappa/(S^2 + kappa^2) dlam,

l_j being Lagrange's polynomials through the outputs. They are the same at every scale, so the integrals of all
scales are one product of matrices: of l_j and of 1/(S^2 + kappa^2) at the nodes of Gauss's rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.model.bound import BoundModel
from sdediff.model.data_statistics import Statistics
from sdediff.solvers.coordinates import ByDimension, ByDirection, tensor
from sdediff.solvers.weights import VARIABLES, Outputs, used_of, vandermonde

_RULES = {count: np.polynomial.legendre.leggauss(count) for count in (3, 4, 5, 6, 8, 12, 16, 24, 32)}


class Integrals:
    """The steps of one run: what does not depend on the scale.

    variable, place: where the polynomials live, and the scale of its angle. counts: the outputs of every step.
    corrected: those with which each step but the last is corrected, in the next one; empty for none. accuracy:
    relative, of the integrals. own, last: (steps, J, nodes + 1), what the integrand at the nodes of a step, and of the
    step before, adds to the weight of its j-th output; the last of a step's nodes stands for the whole integral, which
    has a closed form. kappa2: kappa^2 at the nodes, (steps, nodes + 1).
    """

    def __init__(
        self,
        levels: Sequence[Level],
        variable: str,
        place: float,
        counts: np.ndarray,
        corrected: np.ndarray,
        accuracy: float,
    ) -> None:
        self.alpha, self.sigma, lam = np.array([(v.alpha, v.sigma, v.lam) for v in levels]).T
        n, start = len(counts), np.arange(len(counts))
        # The steps, and each but the last once more as the corrector sees it.
        start, newest = np.append(start, start[: len(corrected)]), np.repeat([0, 1], [n, len(corrected)])
        outputs = Outputs(levels, lam[:, None], variable, place)
        counts, at, used = outputs.points(start, newest, np.append(counts, corrected))
        kappa, parts = _at_nodes(outputs, start, at, used, _rule(np.abs(np.diff(lam)), accuracy))
        wide = max(len(parts[0]), int(counts[:n].max()) + bool(len(corrected)))
        made = np.zeros((len(start), wide, kappa.shape[1] + 1))
        made[:, : parts.shape[1], :-1] = parts * kappa[:, None]
        single = np.flatnonzero(counts == 1)
        made[single] = 0.0
        made[single, newest[single], -1] = 1.0
        made *= self.sigma[np.maximum((start + newest)[:, None] - np.arange(wide), 0)][..., None]
        self.own, self.last = made[:n], np.zeros_like(made[:n])
        if len(corrected):
            # The corrector's weights in place of the predictor's, whose outputs lie one place further back by now.
            self.last[1:] = made[n:]
            self.last[1:, 1:] -= self.own[:-1, :-1]
        self.kappa2 = np.ones((n, kappa.shape[1] + 1))
        self.kappa2[:, :-1] = np.where(np.isfinite(kappa[:n]), kappa[:n] ** 2, 1.0)
        self.whole = set(start[single].tolist())
        self.used = used_of(self.own.any(axis=2) | self.last.any(axis=2))

    def at(self, square: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of x (steps, C) and of outputs (steps, J, C) at scales of which the squares (C,) are given."""

        def own(*values: np.ndarray) -> tuple[Tensor, ...]:
            return torch.from_numpy(np.stack(values)[..., None]).to(square).unbind()

        most, n = max(self.used), len(self.own)
        alpha2, sigma2 = own(self.alpha**2, self.sigma**2)
        own_parts, last = (v.squeeze(-1) for v in own(self.own[:, :most], self.last[:, :most]))
        kernel = (own(self.kappa2)[0] + square).reciprocal_()
        for i in self.whole:
            (t, s), (x, y), scale = self.alpha[i : i + 2].tolist(), self.sigma[i : i + 2].tolist(), square.sqrt()
            kernel[i, -1] = torch.atan2(scale * (x * s - y * t), square * (t * s) + x * y) / scale
        outputs = own_parts @ kernel
        outputs[1:].baddbmm_(last[1:], kernel[:-1])
        variance = torch.addcmul(sigma2, alpha2, square)
        inverse = variance.rsqrt()
        for j in range(most):
            outputs[j:, j].mul_(inverse[: n - j])
        width = variance[1:].mul_(inverse[1:])
        return inverse[:-1].mul_(width), outputs.mul_(width[:, None])


def _rule(h: np.ndarray, accuracy: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss's rule for steps of lam: around a step's middle the kernel is a power series as far as pi/2."""
    rate = math.asinh(math.pi / max(h[np.isfinite(h)].max(initial=0.0), 1e-3))
    needed = 1 - math.log(accuracy) / (2 * rate)
    return _RULES[next((count for count in _RULES if count >= needed), max(_RULES))]


def _at_nodes(
    outputs: Outputs, start: np.ndarray, at: np.ndarray, used: np.ndarray, rule: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """kappa at the nodes of every step, (steps, nodes), and l_j dlam there, (steps, J, nodes)."""
    t, origin = outputs.lam[start], outputs.places[start]
    half = (outputs.lam[start + 1] - t) / 2
    lam = t + half * (rule[0] + 1)
    u = (VARIABLES[outputs.variable](lam, outputs.scale) - origin) / (outputs.places[start + 1] - origin)
    moments = half * rule[1] * u ** np.arange(len(at))[:, None, None]
    return np.exp(-lam), np.swapaxes(vandermonde(at, moments, used), 0, 1)


@torch.inference_mode(mode=False)
def by_dimension(integrals: Integrals, stats: Statistics, model: BoundModel) -> list[ByDimension]:
    """The steps with the scale of every dimension."""
    square, mean = (v.reshape(-1).to(model.device, model.dtype) for v in (stats.dims, stats.mean))
    on_x, on_outputs = integrals.at(square)
    alpha = tensor(integrals.alpha, model)[:, None]
    added = torch.addcmul(alpha[1:], alpha[:-1], on_x, value=-1)
    for outputs in on_outputs.unbind(1):
        added -= outputs
    added *= mean
    shape, ratios = model.shape, (-integrals.alpha / integrals.sigma).tolist()
    factors, most = (v.reshape(-1, *shape).unbind() for v in (on_x, added)), on_outputs.shape[1]
    weights, square = on_outputs.reshape(-1, *shape).unbind(), square.reshape(shape)
    rows = [weights[i * most : i * most + count] for i, count in enumerate(integrals.used)]
    return [ByDimension(p, w, q, square, r) for p, q, w, r in zip(*factors, rows, ratios, strict=False)]


@torch.inference_mode(mode=False)
def by_direction(integrals: Integrals, stats: Statistics, model: BoundModel) -> list[ByDirection]:
    """The steps with the scale of every principal direction, and one beside them."""
    variances, k = stats.variances, len(stats.directions)
    beside = k < stats.directions.shape[1]
    rest = stats.rest if beside else 0.0
    squares = torch.cat([variances, variances.new_tensor([rest])]) if beside else variances
    on_x, on_outputs = (v.numpy() for v in integrals.at(squares))
    # Numbers for all of the state, and along a direction its own coefficients in their place.
    numbers, weights = (on_x[:, -1], on_outputs[..., -1]) if beside else (0 * on_x[:, 0], 0 * on_outputs[..., 0])
    n, most = weights.shape
    alpha, ratio = integrals.alpha, integrals.alpha / integrals.sigma
    rows = np.zeros((n, most, 3, k))
    rows[:, 0, 0], rows[:, :, 1] = on_x[:, :k] - numbers[:, None], on_outputs[..., :k] - weights[..., None]
    for j in range(most):
        rows[j:, j, 2] = on_outputs[j:, j, :k] * ratio[: n - j, None]
    rows[:, :, 2] *= rest - variances.numpy()
    shift, mean = alpha[1:] - alpha[:-1] * numbers - weights.sum(axis=1), stats.mean.reshape(-1)
    along = (rows[:, 0, 0] * -alpha[:-1, None] - rows[:, :, 1].sum(axis=1)) * (stats.directions @ mean).numpy()
    directions, mean = (v.to(model.device, model.dtype) for v in (stats.directions, mean))
    added = torch.addmm(tensor(shift, model)[:, None] * mean, tensor(along, model), directions)
    columns = zip(
        numbers.tolist(), weights.tolist(), added.reshape(-1, *model.shape).unbind(), (-rest * ratio).tolist(),
        tensor(rows, model).flatten(1, 2).unbind(), integrals.used, strict=False,
    )  # fmt: skip
    return [
        ByDirection(p, w[:c], q, e, row if c == most else row[: 3 * c], directions) for p, w, q, e, row, c in columns
    ]
