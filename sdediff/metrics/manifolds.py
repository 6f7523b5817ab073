"""Precision, recall, density and coverage: samples beside the k-nearest-neighbour balls of the reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import whole
from sdediff._utils.errors import InputError
from sdediff.metrics.estimates import Estimate, checked, halved
from sdediff.metrics.features import features_of

Features = str | Callable[[Tensor], Tensor]


def precision(x: Any, y: Any, features: Features = "pca64", k: int = 3) -> Estimate:
    """The share of samples x that lie in a k-nearest-neighbour ball of the reference y: are they like real ones?

    x (N, *shape), y (M, *shape), at least 20 each; features as in `frechet`. A ball reaches from a row of y to its
    k-th nearest other row. In [0, 1], higher is better. Kynkaanniemi et al. 2019, eq. 1 and 2.
    InputError: different shapes, too few samples, NaN or Inf, k above M/2 - 1.
    """
    return _measured("precision", x, y, features, k, lambda near: float(near.any(1).double().mean()))


def recall(x: Any, y: Any, features: Features = "pca64", k: int = 3) -> Estimate:
    """The share of the reference y that lies in a ball of the samples x: is all of it reached?

    Arguments and errors as in `precision`, with the balls around x. Kynkaanniemi et al. 2019, eq. 2.
    """
    return _measured("recall", y, x, features, k, lambda near: float(near.any(1).double().mean()), True)


def density(x: Any, y: Any, features: Features = "pca64", k: int = 5) -> Estimate:
    """The mean number of the reference's balls that a sample lies in, over k: 1 on average where the laws are the same.

    Arguments and errors as in `precision`; unlike it, one outlier of y with a wide ball counts little. At least 0, not
    bounded by 1. Naeem et al. 2020, eq. 3.
    """
    return _measured("density", x, y, features, k, lambda near: float(near.double().sum(1).mean()) / k)


def coverage(x: Any, y: Any, features: Features = "pca64", k: int = 5) -> Estimate:
    """The share of the reference y whose balls hold a sample: about 1 - 2^-k where the laws are the same.

    Arguments and errors as in `precision`. In [0, 1]; at N = M the expectation for one law is
    1 - (N - 1) ... (N - k) / ((2N - 1) ... (2N - k)). Naeem et al. 2020, eq. 4 and lemma 2.
    """
    return _measured("coverage", x, y, features, k, lambda near: float(near.any(0).double().mean()))


def _measured(
    name: str,
    x: Any,
    y: Any,
    features: Features,
    k: int,
    statistic: Callable[[Tensor], float],
    turned: bool = False,
) -> Estimate:
    """A statistic of which rows of x lie in which balls of y, and its error. turned: the features are of x."""
    first, second = checked(x, y)
    pair = (second, first) if turned else (first, second)
    of_first, of_second, label = features_of(*pair, features)
    points, centres = (of_second, of_first) if turned else (of_first, of_second)
    k = whole("k", k, 1)
    # The standard error is that over parts of the rows.
    most = len(centres) // (2 if len(centres) <= 1000 else 4) - 1
    if k > most:
        raise InputError(f"k={k} of {len(centres)} centres: give at most {most}")
    far = torch.cdist(points, centres)
    among = torch.cdist(centres, centres)
    among.fill_diagonal_(math.inf)

    def value(left: np.ndarray, right: np.ndarray) -> float:
        rows, columns = (torch.from_numpy(np.flatnonzero(mask)).to(far.device) for mask in (left, right))
        radii = among[columns][:, columns].kthvalue(k, dim=1).values
        return statistic(far[rows][:, columns] <= radii)

    found = halved(value, len(points), len(centres))
    return Estimate(found.value, math.sqrt(found.variance), f"{name}[{label}, k={k}]")
