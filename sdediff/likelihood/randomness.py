"""Does a network draw random numbers? Its density would be that of a different network at every call."""

from __future__ import annotations

import torch
from torch import Tensor

DREW = "the network draws random numbers in its evaluations, as dropout does: no density belongs to it"


def generator_state(device: torch.device) -> Tensor:
    """The state of torch's own generator on a device, which nothing but a network moves during a likelihood."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.random.get_rng_state()
