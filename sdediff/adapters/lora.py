"""From model to model: an adapter added, merged into the weights, taken out of them again, or removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sdediff._utils.checks import number, shown
from sdediff._utils.errors import InputError, InputTypeError
from sdediff.adapters.network import TARGETS, LoraNetwork
from sdediff.model.score_model import ScoreModel, check_model

_KEPT = "unmerged"


def add_lora(
    model: ScoreModel,
    rank: int = 4,
    *,
    alpha: float | None = None,
    targets: Sequence[str] = TARGETS,
    seed: int = 0,
) -> ScoreModel:
    """The model with low-rank adapters that change nothing yet; `sd.train` then fits them alone.

    The model given is not changed: the networks share their weights, which stay frozen. rank, alpha, targets: as in
    `LoraNetwork`; seed: of the rows of A. Hu et al. 2021. Raises InputError: a network with adapters already, targets
    that name no layer.
    """
    model = check_model(model)
    if not isinstance(model.net, nn.Module):
        raise InputTypeError(f"the model's network {shown(model.net)} is no nn.Module: adapters need its layers")
    if isinstance(model.net, LoraNetwork):
        raise InputError("the model has an adapter already: merge it first, sd.adapters.merge_lora(model)")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = LoraNetwork(model.net, rank=rank, alpha=alpha, targets=targets)
    return model._with(net=net.eval())


def merge_lora(model: ScoreModel, scale: float = 1.0) -> ScoreModel:
    """The model with W + scale (alpha/rank) B A in place of W: a plain network, as fast as without an adapter.

    The weights W stay with it for `unmerge_lora`; subtracting what was added would give them back only to rounding.
    """
    net = lora_network(model, "merge_lora")
    merged = net.without(number("scale", scale))
    setattr(merged, _KEPT, {"network": net})  # in a dictionary, so as not to be a part of the network
    return model._with(net=merged)


def unmerge_lora(model: ScoreModel) -> ScoreModel:
    """The model that `merge_lora` was given, its weights to the bit. InputError: one that was not merged here."""
    kept: Any = getattr(check_model(model).net, _KEPT, None)
    if kept is None:
        raise InputError("the model's network was not merged by merge_lora, which keeps its weights: load it anew")
    return model._with(net=kept["network"])


def remove_lora(model: ScoreModel) -> ScoreModel:
    """The model without its adapter, its weights as they were before."""
    return model._with(net=lora_network(model, "remove_lora").without())


def lora_network(model: ScoreModel, what: str) -> LoraNetwork:
    """The network of a model with an adapter; InputError, which names the function `what`, where it has none."""
    net = check_model(model).net
    if not isinstance(net, LoraNetwork):
        raise InputError(f"{what} needs a model with an adapter, of add_lora(model) or load_lora(model, file)")
    return net
