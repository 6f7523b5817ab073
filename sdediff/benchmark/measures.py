"""Measures of samples beside the true data, by name or as functions."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from sdediff import metrics
from sdediff._utils.errors import InputError

Distance = Callable[[Tensor, Tensor], metrics.Estimate]


def distance_functions(distances: Sequence[str | Distance] | Mapping[str, Distance]) -> dict[str, Distance]:
    """Distances by name, frechet with its features in brackets; ValueError with the nearest names."""
    if isinstance(distances, Mapping):
        return dict(distances)
    found: dict[str, Distance] = {}
    for given in [distances] if isinstance(distances, str) or callable(distances) else distances:
        if not isinstance(given, str):
            found[getattr(given, "__name__", repr(given))] = given
            continue
        match = re.fullmatch(r"(\w+)(?:\[([^\[\]]+)\])?", given)
        name, features = match.groups() if match else (given, None)
        function = metrics.measure(name)
        if name in metrics.MANIFOLDS and not found:
            raise InputError(f"{given} grows with quality: solvers are ranked by the first, which is to be a distance")
        found[given] = functools.partial(function, features=features) if features else function
    return found
