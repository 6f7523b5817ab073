"""What a run's network and callback do: evaluations are counted, cut gradients and changed states refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.model.network import look
from sdediff.model.prediction import ModelError
from sdediff.model.score_model import ScoreModel

if TYPE_CHECKING:
    from sdediff.sampling.run import State


class CallCounter:
    """Counts the evaluations of the network that it wraps."""

    def __init__(self) -> None:
        self.calls = 0

    def wrap(self, net: Callable[..., Any]) -> Callable[..., Any]:
        """The network, counted."""

        def counted(*args: Any, **cond: Any) -> Any:
            output = net(*args, **cond)
            self.calls += 1
            return output

        return counted


def check_gradients(model: ScoreModel, x: Tensor, state: State) -> None:
    """Refuse an output without gradients where grad=True asks for them: of the states, parameters or conditions.

    A network that is the same for other states has no gradient in them, and no graph. It is evaluated there to see.
    """
    learned = any(p.requires_grad for module in look(model.net).modules for p in module.parameters())
    given = any(v.requires_grad for v in model.cond.values() if isinstance(v, Tensor))
    if learned or given or (x.requires_grad and not _constant(model, state)):
        raise ModelError(
            "the network's output carries no gradient, as under torch.no_grad() or detach(), and grad=True asks for "
            "them: let it run with gradients, or write grad=False"
        )


def _constant(model: ScoreModel, state: State) -> bool:
    with torch.no_grad():
        here, there = (model(x, state.t).raw for x in (state.x.detach(), state.x.detach() + 1))
    return torch.equal(here, there)


def watched(callback: Callable[[State], None], state: State) -> None:
    """Call a callback, and refuse what it has changed in place: the steps after it would not be the solver's."""
    tensors = [state.x] if state.prediction is None else [state.x, state.prediction.raw]
    before = [v.clone() if v.is_inference() else v._version for v in tensors]
    callback(state)
    for tensor, was in zip(tensors, before, strict=True):
        if tensor._version != was if isinstance(was, int) else not torch.equal(tensor, was):
            raise InputError(
                "the callback changed the states in place: change what the network predicts by "
                "sdediff.guidance.map_prediction, or the states by a solver of your own"
            )
