"""Parametrisations: what a network's output F means, each an affine pair x0 = a x + b F."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sdediff.grids.levels import Level


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


def affine_pair(predicts: str, t: Level, sigma_data: float) -> tuple[Any, Any]:
    """(a, b) of x0 = a x + b F at a level, of a network of that `predicts`."""
    name, sign = signed(predicts)
    a, b = PARAMETRISATIONS[name](t, sigma_data)
    return a, b if sign > 0 else -b
