"""Features of samples by name: pixels, principal components, or what a network gives."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.metrics.estimates import checked, flat
from sdediff.metrics.networks import classifier_features, inception_features

# Before the name of the file.
INCEPTION = "inception:"


def features_of(x: Tensor, y: Tensor, features: str | Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, str]:
    """Features (N, F) and (M, F) in float64, and their name. pca: the components of y, the reference."""
    if isinstance(features, str) and (features == "classifier" or features.startswith(INCEPTION)):
        inception = features.startswith(INCEPTION)
        network = inception_features(features.removeprefix(INCEPTION)) if inception else classifier_features()
        return *features_of(x, y, network)[:2], "inception" if inception else features
    if not isinstance(features, str):
        if not callable(features) or getattr(features, "training", False):
            raise InputError("features: no name or callable, or a module in train mode: write features.eval()")
        with torch.no_grad():
            values = [torch.cat([features(part) for part in v.split(512)]) for v in (x, y)]
        first, second = map(flat, checked(*values))
        return first, second, getattr(features, "__name__", type(features).__name__)
    first, second = flat(x), flat(y)
    if features == "pixels":
        return first, second, features
    if not (match := re.fullmatch(r"pca([1-9]\d*)", features)):
        raise InputError(
            f"features={features!r}: give 'pixels', 'pca64' (or another number), 'classifier', 'inception:FILE' or a "
            "callable"
        )
    count = min(int(match[1]), first.shape[1])
    middle = second.mean(dim=0)
    basis = torch.linalg.eigh((second - middle).T @ (second - middle))[1].flip(1)[:, :count]
    return (first - middle) @ basis, (second - middle) @ basis, f"pca{count}"
