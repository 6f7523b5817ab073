"""Problems with known answers: data sets with exact samples, density and score under every linear process.

`problem(name)` gives a Mixture; `Mixture.model(sde)` its exact score network, `Mixture.sample` its data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import times64
from sdediff.noise.philox import normals
from sdediff.targets._mixture import Mixture
from sdediff.targets._net import ExactNet

__all__ = [
    "PROBLEMS",
    "ExactNet",
    "Mixture",
    "gaussian",
    "gmm64",
    "gmm768",
    "low_rank_mixture",
    "mixture",
    "moons",
    "problem",
    "ring",
    "target_m",
]


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
        raise ValueError("gaussian takes exactly one of cov, std and spectrum")
    one = torch.ones(1)
    if cov is None:
        variances = times64(std).square() if spectrum is None else times64(spectrum)
        diagonal = variances.expand(centre.shape) if variances.ndim == 0 else variances.reshape(1, -1)
        return Mixture(one, centre, diagonal, shape=tuple(shape))
    matrix, dim = times64(cov), centre.shape[1]
    if tuple(matrix.shape) != (dim, dim) or not torch.allclose(matrix, matrix.T):
        raise ValueError(f"cov must be symmetric, ({dim}, {dim}), given the shape {tuple(matrix.shape)}")
    values, vectors = torch.linalg.eigh(matrix)
    return Mixture(one, centre, (values - values[0])[None], vectors[None], values[:1], tuple(shape))


def mixture(means: Any, stds: Any, weights: Any = None, shape: Sequence[int] = ()) -> Mixture:
    """Gaussians at means (K, D) with stds a float, (K,) or (K, D), and weights (K,), by default equal."""
    centres, spread = times64(means), times64(stds)
    if centres.ndim != 2:
        raise ValueError(f"means must be (K, D), given the shape {tuple(centres.shape)}")
    spread = spread[:, None] if spread.ndim == 1 else spread
    if spread.ndim and spread.shape not in (centres.shape, (len(centres), 1)):
        raise ValueError(f"stds must be a float, (K,) or (K, D), given {tuple(times64(stds).shape)} for {len(centres)}")
    shares = torch.full((len(centres),), 1 / len(centres)).double() if weights is None else times64(weights)
    return Mixture(shares, centres, spread.expand(centres.shape).square(), shape=tuple(shape))


def low_rank_mixture(
    dim: int, components: int, rank: int, floor: float = 0.15, seed: int = 0, shape: Sequence[int] = ()
) -> Mixture:
    """Random Gaussians that each fill `rank` of `dim` dimensions, with standard deviation `floor` elsewhere.

    Means have a standard deviation of 0.5 a coordinate; a component's eigenvalues fall as 1/j and add a
    variance of 0.16 a coordinate, so the data are about as wide as images in [-1, 1]. Equal weights.
    """
    if not (components >= 1 and 0 <= rank <= dim):
        raise ValueError(f"needed components >= 1 and 0 <= rank <= dim, given {components}, {rank} and {dim}")
    z = torch.from_numpy(normals(seed, np.arange(components), _SHAPE, (dim, rank + 1))).double()
    vectors, upper = torch.linalg.qr(z[:, :, 1:])
    # Libraries differ in the signs that they leave on the columns.
    vectors = vectors * torch.diagonal(upper, dim1=1, dim2=2).sign()[:, None]
    fall = 1 / torch.arange(1, rank + 1).double()
    values = (0.16 * dim * fall / fall.sum()).expand(components, rank)
    shares, floors = (
        torch.full((components,), 1 / components).double(),
        torch.full((components,), floor**2).double(),
    )
    return Mixture(shares, 0.5 * z[:, :, 0], values, vectors, floors, tuple(shape))


def ring(modes: int = 8, std: float = 0.1, radius: float = math.sqrt(2), unequal: bool = False) -> Mixture:
    """Gaussians on a circle in the plane, of variance 1 a coordinate; unequal weights rise as 1..modes."""
    if modes < 1:
        raise ValueError(f"a ring has at least one mode, given {modes}")
    turn = torch.arange(modes).double() * (2 * math.pi / modes)
    weights = torch.arange(1, modes + 1).double() if unequal else torch.ones(modes).double()
    return mixture(radius * torch.stack([turn.cos(), turn.sin()], 1), std, weights / weights.sum())


def moons(modes: int = 20, std: float = 0.1) -> Mixture:
    """Two interlocked half circles of radius 1 in the plane, each a chain of `modes` Gaussians, so exact."""
    if modes < 2:
        raise ValueError(f"a moon has at least two modes, given {modes}")
    turn = torch.linspace(0, math.pi, modes, dtype=torch.float64)
    upper = torch.stack([turn.cos() - 0.5, turn.sin() - 0.25], 1)
    return mixture(torch.cat([upper, -upper]), std)


def target_m() -> Mixture:
    """Three unequal Gaussians in the plane, the target M of the tests' tables."""
    return mixture([[-1.5, 0.0], [1.0, 1.2], [0.8, -1.0]], [0.25, 0.35, 0.15], [0.3, 0.4, 0.3])


def gmm64() -> Mixture:
    """Six Gaussians of rank 6 over a floor of 0.15 as 8x8 images, states (B, 1, 8, 8)."""
    return low_rank_mixture(64, 6, 6, shape=(1, 8, 8))


def gmm768() -> Mixture:
    """Six Gaussians of rank 16 over a floor of 0.15 as 16x16 colour images, states (B, 3, 16, 16)."""
    return low_rank_mixture(768, 6, 16, shape=(3, 16, 16))


def _correlated() -> Mixture:
    return gaussian([0.5, -0.3], cov=[[1.0, 0.6], [0.6, 0.5]])


# The stream of the counter that draws a random problem's own shape.
_SHAPE = (0xFFFFFFFC, 0)

PROBLEMS: dict[str, Callable[[], Mixture]] = {
    "gaussian": _correlated,
    "gmm64": gmm64,
    "gmm768": gmm768,
    "moons": moons,
    "ring": ring,
    "ring_unequal": lambda: ring(unequal=True),
    "target_m": target_m,
}


def problem(name: str) -> Mixture:
    """The problem of a name in PROBLEMS. Raises ValueError with the nearest names."""
    if name not in PROBLEMS:
        raise ValueError(nearest(name, PROBLEMS, "problem"))
    return PROBLEMS[name]()
