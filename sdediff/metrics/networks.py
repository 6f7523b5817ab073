"""Features that networks give: the shipped classifier of digits, and Inception from a file of the user's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff._utils.files import expanded
from sdediff._utils.suggestions import late

CLASSIFIER = "digits-classifier"
# Of the last pooling layer, by which Heusel et al. 2017 define their distance.
_POOLED = 2048


def classifier_features() -> Callable[[Tensor], Tensor]:
    """What the shipped classifier of 8x8 digits feeds its last layer, at its least noise: (B, 1, 8, 8) -> (B, F).

    States are in [-1, 1], as those of the digits networks.
    """
    model = late("sdediff.hub:load")(CLASSIFIER)
    net, lowest = model.net, float(model.sde.t_min)

    def classifier(x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != (1, 8, 8):
            raise InputError(f"features='classifier' are of digits (B, 1, 8, 8), given {tuple(x.shape)}: give 'pca32'")
        kept: list[Tensor] = []
        hook = net.last.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
        try:
            net(x.float().cpu(), torch.full((len(x),), lowest))
        finally:
            hook.remove()
        return kept[0].to(x.device)

    return classifier


def inception_features(file: str | Path) -> Callable[[Tensor], Tensor]:
    """Inception's pooled features from a TorchScript file: images (B, 1 or 3, H, W) in [-1, 1] -> (B, 2048).

    The network takes uint8 images (B, 3, H, W) and gives (B, 2048), by return_features=True where it has that argument.
    InputError: no such file, no TorchScript, other features.
    """
    path = expanded(file, "the file")
    if not path.is_file():
        raise InputError(f"{path}: no such file: give Inception's weights as a TorchScript file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of TorchScript
            net: Any = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        raise InputError(f"{path}: not a TorchScript file ({str(error).splitlines()[0][:100]})") from error

    def inception(x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise InputError(f"Inception takes images (B, 1 or 3, H, W), given {tuple(x.shape)}")
        images = ((x.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)
        try:
            found = net(images, return_features=True)
        except RuntimeError:
            found = net(images)
        if not isinstance(found, Tensor) or tuple(found.shape) != (len(x), _POOLED):
            given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"{path} gives {given}, Inception gives ({len(x)}, {_POOLED}): pass it as features=module")
        return found

    return inception
