"""Targets by name, and the functions that build them: a Gaussian, mixtures, rings, moons and low-rank mixtures."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sdediff._utils.checks import known, number, shown, whole
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import times64
from sdediff.noise.counter import normals
from sdediff.targets.gaussian_mixture import Mixture


def gaussian(
    mean: Any,
    cov: Any = None,
    std: Any = None,
    spectrum: Any = None,
    shape: Sequence[int] = (),
) -> Mixture:
    """One Gaussian of mean (D,), given exactly one of cov (D, D), std (float or (D,)), spectrum (D,).

    A spectrum is the variances along the axes. States are (B, *shape), by default (B, D).
    """
    centre = times64(mean).reshape(1, -1)
    if sum(v is not None for v in (cov, std, spectrum)) != 1:
        raise InputError("gaussian takes exactly one of cov, std and spectrum")
    weight = torch.ones(1)
    if cov is None:
        variances = times64(std).square() if spectrum is None else times64(spectrum)
        diagonal = variances.expand(centre.shape) if variances.ndim == 0 else variances.reshape(1, -1)
        return Mixture(weight, centre, diagonal, shape=tuple(shape))
    matrix, dim = times64(cov), centre.shape[1]
    if tuple(matrix.shape) != (dim, dim) or not torch.allclose(matrix, matrix.T):
        raise InputError(f"cov must be symmetric, ({dim}, {dim}), given the shape {tuple(matrix.shape)}")
    values, vectors = torch.linalg.eigh(matrix)
    return Mixture(weight, centre, (values - values[0])[None], vectors[None], values[:1], tuple(shape))


def mixture(means: Any, stds: Any, weights: Any = None, shape: Sequence[int] = ()) -> Mixture:
    """Gaussians at means (K, D) with stds a float, (K,) or (K, D), and weights (K,), by default equal."""
    centres, deviations = times64(means), times64(stds)
    if centres.ndim != 2:
        raise InputError(f"means must be (K, D), given the shape {tuple(centres.shape)}")
    deviations = deviations[:, None] if deviations.ndim == 1 else deviations
    if deviations.ndim and deviations.shape not in (centres.shape, (len(centres), 1)):
        raise InputError(f"stds must be a float, (K,) or (K, D), given {tuple(times64(stds).shape)} for {len(centres)}")
    shares = torch.full((len(centres),), 1 / len(centres)).double() if weights is None else times64(weights)
    return Mixture(shares, centres, deviations.expand(centres.shape).square(), shape=tuple(shape))


def low_rank_mixture(
    dim: int, components: int, rank: int, floor: float = 0.15, seed: int = 0, shape: Sequence[int] = ()
) -> Mixture:
    """Random Gaussians that each fill `rank` of `dim` dimensions, with standard deviation `floor` elsewhere.

    Means have a standard deviation of 0.5 a coordinate; a component's eigenvalues fall as 1/j and add a
    variance of 0.16 a coordinate, so the data are about as wide as images in [-1, 1]. Equal weights.
    """
    dim, components, rank = whole("dim", dim), whole("components", components), whole("rank", rank)
    floor, seed = number("floor", floor), whole("seed", seed, 0)
    if not (components >= 1 and 0 <= rank <= dim):
        raise InputError(f"needed components >= 1 and 0 <= rank <= dim, given {components}, {rank} and {dim}")
    z = torch.from_numpy(normals(seed, np.arange(components), _PARAMETERS, (dim, rank + 1))).double()
    vectors, triangular = torch.linalg.qr(z[:, :, 1:])
    # The signs of QR's columns differ between linear algebra libraries: fix them.
    vectors = vectors * torch.diagonal(triangular, dim1=1, dim2=2).sign()[:, None]
    decay = 1 / torch.arange(1, rank + 1).double()
    variances = (0.16 * dim * decay / decay.sum()).expand(components, rank)
    weights = torch.full((components,), 1 / components).double()
    floors = torch.full((components,), floor**2).double()
    return Mixture(weights, 0.5 * z[:, :, 0], variances, vectors, floors, tuple(shape))


def ring(modes: int = 8, std: float = 0.1, radius: float = math.sqrt(2), unequal: bool = False) -> Mixture:
    """Gaussians on a circle in the plane, of variance 1 a coordinate; unequal weights rise as 1..modes."""
    modes, std, radius = whole("modes", modes), number("std", std), number("radius", radius)
    if modes < 1:
        raise InputError(f"a ring has at least one mode, given {modes}")
    angles = torch.arange(modes).double() * (2 * math.pi / modes)
    weights = torch.arange(1, modes + 1).double() if unequal else torch.ones(modes).double()
    return mixture(radius * torch.stack([angles.cos(), angles.sin()], 1), std, weights / weights.sum())


def moons(modes: int = 20, std: float = 0.1) -> Mixture:
    """Two interlocked half circles of radius 1 in the plane, each a chain of `modes` Gaussians, so exact."""
    modes, std = whole("modes", modes), number("std", std)
    if modes < 2:
        raise InputError(f"a moon has at least two modes, given {modes}")
    angles = torch.linspace(0, math.pi, modes, dtype=torch.float64)
    upper = torch.stack([angles.cos() - 0.5, angles.sin() - 0.25], 1)
    return mixture(torch.cat([upper, -upper]), std)


def target_m() -> Mixture:
    """Three unequal Gaussians in the plane: "target M" of the tables in the docs and tests."""
    return mixture([[-1.5, 0.0], [1.0, 1.2], [0.8, -1.0]], [0.25, 0.35, 0.15], [0.3, 0.4, 0.3])


def gmm64() -> Mixture:
    """Six Gaussians of rank 6 over a floor of 0.15 as 8x8 images, states (B, 1, 8, 8)."""
    return low_rank_mixture(64, 6, 6, shape=(1, 8, 8))


def gmm768() -> Mixture:
    """Six Gaussians of rank 16 over a floor of 0.15 as 16x16 colour images, states (B, 3, 16, 16)."""
    return low_rank_mixture(768, 6, 16, shape=(3, 16, 16))


def _correlated() -> Mixture:
    return gaussian([0.5, -0.3], cov=[[1.0, 0.6], [0.6, 0.5]])


# The counter's stream for the random means and axes of `low_rank_mixture`.
_PARAMETERS = (0xFFFFFFFC, 0)

TARGETS: dict[str, Callable[[], Mixture]] = {
    "gaussian": _correlated,
    "gmm64": gmm64,
    "gmm768": gmm768,
    "moons": moons,
    "ring": ring,
    "ring_unequal": functools.partial(ring, unequal=True),
    "target_m": target_m,
}


def target(name: str) -> Mixture:
    """The target of a name in TARGETS. Raises ValueError with the nearest names."""
    if not isinstance(name, str):
        raise InputTypeError(f"target({shown(name)}): write one of {', '.join(TARGETS)}")
    if not known(name, TARGETS):
        raise InputError(nearest(name, TARGETS, "target"))
    return TARGETS[name]()
