"""Distances between two sets of samples, each with a standard error from one shared jackknife.

The sets are assumed to be drawn independently of each other, in any order: each is shuffled into ten blocks in
its own way. For sets that share their noise sample by sample the stated errors are too large.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import known, number, samples, whole
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff.datasets import needed
from sdediff.noise.counter import normals, uniforms

_BLOCKS = 10
# Streams of a seed that nothing else uses.
_DIRECTIONS, _SHUFFLE = (0xFFFFFFF0, 0), 0x5B0C
# Number of pairs or projected values handled at once, which bounds the memory.
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Estimate:
    """A measured distance, the standard error of its value over draws of both sets, and its full name."""

    value: float
    std_error: float
    name: str

    def __str__(self) -> str:
        if not 1e-9 < self.std_error < math.inf:
            return f"{self.value:.4g} +- {self.std_error:.1g}"
        digits = max(0, 1 - math.floor(math.log10(self.std_error)))
        return f"{self.value:.{digits}f} +- {self.std_error:.{digits}f}"


def sliced_wasserstein(x: Any, y: Any, projections: int = 200, p: float = 2, seed: int = 0) -> Estimate:
    """Sliced Wasserstein distance of order p: (mean over directions of W_p^p)^(1/p), >= 0.

    x (N, *shape), y (M, *shape), N and M at least 20; in the units of x. Bonneel et al. 2015, by POT.
    Biased upwards: sets from one law give about N^(-1/2), not 0. The directions are a function of `seed`
    and the standard error is that over samples for these directions: compare values of one seed.
    InputError: other shapes, too few samples, NaN or Inf, projections < 1, p < 1. MissingPackageError: POT.
    """
    projections, p, seed = whole("projections", projections), number("p", p), whole("seed", seed)
    if not (projections >= 1 and 1 <= p < math.inf):
        raise InputError(f"projections={projections}, p={p}: give at least one projection and 1 <= p < inf")
    transport = needed("ot", "sdediff[metrics]")
    first, second = (_flat(v).cpu().numpy() for v in _checked(x, y))
    directions = normals(seed, np.arange(projections), _DIRECTIONS, first.shape[1:]).astype(np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sets = [_projected(v, b, directions) for v, b in zip((first, second), _blocks(first, second), strict=True)]
    step = max(1, _AT_ONCE // (len(first) + len(second)))

    def statistic(keep: np.ndarray) -> float:
        total = 0.0
        for i in range(0, projections, step):
            parts = [(values[i : i + step], keep[blocks[i : i + step]]) for values, blocks in sets]
            # Every direction keeps equally many values, so the selection is again a matrix with sorted rows.
            left, right = (values[selected].reshape(len(values), -1).T for values, selected in parts)
            total += float(transport.wasserstein_1d(left, right, p=p, require_sort=False).sum())
        return float(max(total / projections, 0.0) ** (1 / p))

    return _jackknife(statistic, f"sliced_w{p:g}")


def energy_distance(x: Any, y: Any) -> Estimate:
    """Energy distance 2 E|x - y| - E|x - x'| - E|y - y'| (no root), in the units of x.

    x (N, *shape), y (M, *shape), N and M at least 20. Unbiased (sums over distinct pairs), so it may be
    negative when the two laws are near. Zero if and only if the laws are the same. Szekely, Rizzo 2013.
    InputError: different shapes, too few samples, NaN or Inf.
    """
    return _kernel_distance(*_centred(x, y), lambda d: -d, "energy")


def mmd(x: Any, y: Any, bandwidth: float | None = None) -> Estimate:
    """Squared maximum mean discrepancy with the kernel exp(-|x - y|^2 / (2 bandwidth^2)), without units.

    x (N, *shape), y (M, *shape), N and M at least 20. Unbiased (sums over distinct pairs), so it may be
    negative when the two laws are near. bandwidth: by default the median distance among up to 1000 samples
    of both sets, evenly spaced; its value is in the name, and values of different bandwidths do not compare. Gretton et
    al. 2012, eq. 3. InputError: different shapes, too few samples, NaN or Inf, bandwidth not > 0.
    """
    first, second = _centred(x, y)
    if bandwidth is None:
        pool = [v[:: math.ceil(len(v) / 500)] for v in (first, second)]
        bandwidth = float(torch.pdist(torch.cat(pool)).median())
    if not 0 < number("bandwidth", bandwidth):
        raise InputError(f"mmd: bandwidth={bandwidth}: give a finite bandwidth > 0, in the units of x")
    rate = -0.5 / bandwidth**2
    return _kernel_distance(first, second, lambda d: (rate * d**2).exp(), f"mmd2[rbf {bandwidth:.3g}]")


def frechet(x: Any, y: Any, features: str | Callable[[Tensor], Tensor] = "pca64") -> Estimate:
    """Squared Frechet distance between Gaussians fitted to named features of samples x and reference y.

    x (N, *shape), y (M, *shape). features: "pixels", "pcaK" (the K leading components of y, fewer where y
    has fewer values), or a callable (B, *shape) -> (B, F); the name carries them, and it is never called FID.
    |m1 - m2|^2 + tr(C1 + C2) - 2 |C1^(1/2) C2^(1/2)|_nuclear >= 0 (Dowson, Landau 1982), in units of
    features squared. Biased upwards by about (F^2 + 5 F)/(2 N) variances at N = M, more for K << D.
    InputError: different shapes, 0.9 N <= F, NaN or Inf, unknown features, a module in train mode.
    """
    first, second, name = _features(*_checked(x, y), features)
    size = min(len(first), len(second))
    if size < (needs := math.floor(first.shape[1] / 0.9) + 2):
        raise InputError(f"frechet[{name}] needs {needs} samples a set, given {size}: try 'pca{size // 10}'")
    pairs = list(zip((first, second), _blocks(first, second), strict=True))

    def statistic(keep: np.ndarray) -> float:
        (m1, r1), (m2, r2) = (_moments(v[torch.from_numpy(keep[blocks])]) for v, blocks in pairs)
        # Singular values of the product of the roots: eigenvalues of C1 C2 would lose half of the digits.
        overlap = torch.linalg.svdvals(r1.T @ r2).sum()
        return max(float((m1 - m2).square().sum() + r1.square().sum() + r2.square().sum() - 2 * overlap), 0.0)

    return _jackknife(statistic, f"frechet[{name}]")


DISTANCES: dict[str, Callable[..., Estimate]] = {
    "sliced_wasserstein": sliced_wasserstein,
    "energy": energy_distance,
    "mmd": mmd,
    "frechet": frechet,
}


def distance(name: str) -> Callable[..., Estimate]:
    """The distance of that name in DISTANCES; InputError with the nearest name otherwise."""
    if not known(name, DISTANCES):
        raise InputError(nearest(name, DISTANCES, "distance"))
    return DISTANCES[name]


def _jackknife(statistic: Callable[[np.ndarray], float], name: str) -> Estimate:
    """The statistic of all blocks, and its standard error from leaving out one block of both sets at a time.

    statistic: a function of which blocks to keep, bool (10,). Efron, Stein 1981: the variance is not
    underestimated on average; where the two laws are the same it is up to twice too large.
    """
    without = np.array([statistic(np.arange(_BLOCKS) != b) for b in range(_BLOCKS)])
    std_error = math.sqrt(_BLOCKS - 1) * float(without.std())
    return Estimate(statistic(np.ones(_BLOCKS, dtype=bool)), std_error, name)


def _blocks(*sets: Tensor | np.ndarray) -> list[np.ndarray]:
    """The block 0..9 of each row of each set. Shuffled: sets come sorted, or cycle through their classes."""
    draws = [uniforms(0, np.arange(len(v)), (_SHUFFLE, i), ()) for i, v in enumerate(sets)]
    return [np.argsort(np.argsort(u, kind="stable")) % _BLOCKS for u in draws]


def _checked(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both sets as tensors (N, *shape) on one device, of one sample shape, finite, of 20 samples or more."""
    first, second = samples("x", x), samples("y", y)
    for name, v in (("x", first), ("y", second)):
        if v.ndim == 0 or len(v) < 2 * _BLOCKS or v[0].numel() == 0:
            raise InputError(f"{name} has shape {tuple(v.shape)}: give (N, ...), N at least {2 * _BLOCKS}")
        bad = (~torch.isfinite(v.reshape(len(v), -1)).all(dim=1)).nonzero()
        if len(bad):
            raise InputError(f"{name}: row {int(bad[0])} holds NaN or Inf ({len(bad)} rows do): leave it out")
    if first.shape[1:] != second.shape[1:]:
        shapes = " and ".join(str(tuple(v.shape[1:])) for v in (first, second))
        raise InputError(f"samples of x and y have shapes {shapes}: give both the same")
    return first, second.to(first.device)


def _flat(v: Tensor) -> Tensor:
    return v.reshape(len(v), -1).double()


def _centred(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Flat sets minus the mean of x: distances by inner products lose digits far from the origin."""
    first, second = map(_flat, _checked(x, y))
    return first - first.mean(dim=0), second - first.mean(dim=0)


def _projected(v: np.ndarray, blocks: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted projections (P, N) and the block of the row that each came from."""
    values = directions @ v.T
    order = np.argsort(values, axis=1)
    return np.take_along_axis(values, order, axis=1), blocks.astype(np.int8)[order]


def _kernel_distance(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor], name: str) -> Estimate:
    """k(x, x') + k(y, y') - 2 k(x, y), means over distinct pairs, from sums over pairs of blocks."""
    parts = zip((x, y), _blocks(x, y), strict=True)
    groups = [[v[torch.from_numpy(blocks == b)] for b in range(_BLOCKS)] for v, blocks in parts]
    sizes = [np.array([len(block) for block in group]) for group in groups]
    xx, yy, xy = (_block_sums(groups[a], groups[b], kernel) for a, b in ((0, 0), (1, 1), (0, 1)))
    diagonal = float(kernel(x.new_zeros(())))
    xx, yy = xx - np.diag(sizes[0] * diagonal), yy - np.diag(sizes[1] * diagonal)

    def statistic(keep: np.ndarray) -> float:
        n, m = (float(s[keep].sum()) for s in sizes)
        within = keep @ xx @ keep / (n * (n - 1)) + keep @ yy @ keep / (m * (m - 1))
        return float(within - 2 * (keep @ xy @ keep) / (n * m))

    return _jackknife(statistic, name)


def _block_sums(rows: list[Tensor], columns: list[Tensor], kernel: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Sums (10, 10) of the kernel of distances between the rows of two blocks."""
    sums = np.zeros((_BLOCKS, _BLOCKS))
    for i, a in enumerate(rows):
        for j, b in enumerate(columns):
            if rows is columns and j < i:
                sums[i, j] = sums[j, i]
                continue
            for part in a.split(max(1, _AT_ONCE // len(b))):
                pairs = torch.cdist(part, b, compute_mode="use_mm_for_euclid_dist")
                sums[i, j] += float(kernel(pairs).sum())
    return sums


def _moments(v: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (F,) and a root R of the covariance R R^T of rows (N, F)."""
    mean = v.mean(dim=0)
    values, vectors = torch.linalg.eigh((v - mean).T @ (v - mean) / (len(v) - 1))
    return mean, vectors * values.clamp(min=0).sqrt()


def _features(x: Tensor, y: Tensor, features: str | Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, str]:
    """Features (N, F) and (M, F) in float64, and their name."""
    if not isinstance(features, str):
        if not callable(features) or getattr(features, "training", False):
            raise InputError("features: no name or callable, or a module in train mode: write features.eval()")
        with torch.no_grad():
            values = [torch.cat([features(part) for part in v.split(512)]) for v in (x, y)]
        first, second = map(_flat, _checked(*values))
        return first, second, getattr(features, "__name__", type(features).__name__)
    first, second = _flat(x), _flat(y)
    if features == "pixels":
        return first, second, features
    if not (match := re.fullmatch(r"pca([1-9]\d*)", features)):
        raise InputError(f"features={features!r}: give 'pixels', 'pca64' (or another number) or a callable")
    count = min(int(match[1]), first.shape[1])
    middle = second.mean(dim=0)
    basis = torch.linalg.eigh((second - middle).T @ (second - middle))[1].flip(1)[:, :count]
    return (first - middle) @ basis, (second - middle) @ basis, f"pca{count}"
