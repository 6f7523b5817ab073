"""Targets: distributions with exact samples, density and score under every process with alpha and sigma.

`target(name)` gives a Mixture; `Mixture.model(sde)` is its exact score network, `Mixture.sample` its data.
"""

from sdediff.targets.exact_network import ExactNet
from sdediff.targets.gaussian_mixture import Mixture
from sdediff.targets.named import (
    TARGETS,
    gaussian,
    gmm64,
    gmm768,
    low_rank_mixture,
    mixture,
    moons,
    ring,
    target,
    target_m,
)
from sdediff.targets.posteriors import posterior

__all__ = [
    "TARGETS",
    "ExactNet",
    "Mixture",
    "gaussian",
    "gmm64",
    "gmm768",
    "low_rank_mixture",
    "mixture",
    "moons",
    "posterior",
    "ring",
    "target",
    "target_m",
]
