"""How the noise of a batch is paired with its data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import known
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff.datasets import needed
from sdediff.model.prediction import ModelError
from sdediff.model.score_model import ScoreModel

COUPLINGS = ("independent", "ot")


def check_coupling(coupling: Any) -> None:
    """Refuse a coupling that there is not."""
    if not known(coupling, COUPLINGS):
        raise InputError(nearest(str(coupling), COUPLINGS, "coupling"))


def paired_noise(model: ScoreModel, x0: Tensor, eps: Tensor, coupling: str) -> Tensor:
    """The noise of each sample, for "ot" in the order that is nearest to the data.

    ModelError: "ot" for a model whose score would be converted from a velocity that does not determine it.
    """
    if coupling == "independent":
        return eps
    if not model.velocity_only:
        raise ModelError(
            'coupling="ot" makes noise and data dependent, after which the network has a velocity and no score: '
            'write ScoreModel(..., predicts="velocity", velocity_only=True)'
        )
    return transported(x0, eps)


def transported(x0: Tensor, eps: Tensor) -> Tensor:
    """The noise (B, ...) in the order that pairs it with x0 (B, ...) at the least sum of squared distances, by POT."""
    ot = needed("ot", "sdediff[metrics]")
    one, two = (v.detach().double().flatten(1).cpu() for v in (x0, eps))
    plan = ot.emd([], [], torch.cdist(one, two).square().numpy())
    return eps[torch.from_numpy(plan.argmax(1)).to(eps.device)]
