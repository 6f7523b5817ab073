"""Does a network draw random numbers? Its density would be that of a different network at every call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdediff.model.score_model import Net

DREW = "the network draws random numbers in its evaluations, as dropout does: no density belongs to it"


class RandomWatch:
    """Looks, at a network's first call, whether torch's own generator moved; makes no call of its own."""

    def __init__(self) -> None:
        self.drew = False
        self._looked = False

    def wrap(self, net: Net) -> Net:
        """The network, watched."""

        def call(x: Tensor, clock: Tensor, **cond: Any) -> Any:
            if self._looked:
                return net(x, clock, **cond)
            self._looked = True
            before = _state(x)
            output = net(x, clock, **cond)
            self.drew = not torch.equal(before, _state(x))
            return output

        return call


def _state(x: Tensor) -> Tensor:
    """The state of the generator that a network's own draws move, where the states are."""
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.random.get_rng_state()
