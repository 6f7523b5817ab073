"""The models and the data inside the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sdediff._utils.checks import known
from sdediff._utils.suggestions import meant
from sdediff.datasets import DataSet
from sdediff.hub.card import summary
from sdediff.hub.config import read
from sdediff.hub.errors import HubError

ASSETS = Path(__file__).parents[1] / "assets"
_DATA = {"digits": ("digits.npz", 17)}


def embedded_names() -> list[str]:
    """The names of the models inside the package."""
    return sorted(path.parent.name for path in ASSETS.glob("*/config.json"))


def models() -> dict[str, dict[str, Any]]:
    """The models inside the package: name -> a summary of its card (process, predicts, bits/dim, ...)."""
    return {name: summary(read(ASSETS / name)) for name in embedded_names()}


def data(name: str = "digits", split: str = "test") -> DataSet:
    """A data set inside the package: "digits", 8x8 images (N, 1, 8, 8) of 17 levels, 3823 train, 1797 test.

    The split may stand in the name, "digits:train". HubError: no such data set or split, or two splits.
    """
    name, _, own = name.partition(":") if isinstance(name, str) else (name, "", "")
    if own and split not in ("test", own):
        raise HubError(f"{name}:{own} with split={split!r}: name one of them")
    split = own or split
    if not known(name, _DATA):
        raise HubError(f"no data set {name!r} in the package: {meant(name, _DATA)}")
    if not known(split, ("train", "test")):
        raise HubError(f"no split {split!r} of {name}: {meant(split, ('train', 'test'))}")
    file, levels = _DATA[name]
    with np.load(ASSETS / file, allow_pickle=False) as stored:
        images, labels = stored[f"{split}_images"], stored[f"{split}_labels"]
    return DataSet(images[:, None], levels, (0, levels - 1), labels, f"{name}:{split}")
