"""A model that records what a contender does with it: calls, time, the first state and the last level."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import Error
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import ScoreModel


class CallsSpent(Error):
    """Raised inside of a contender that asks for more network evaluations than it may have."""


class WatchedNetwork:
    """A network that counts its evaluations up to a limit and the time spent in it; `net` is the network itself.

    bridge: seconds that an adapter spent between the frame of another library and the network.
    """

    def __init__(self, net: Callable[..., Any], limit: int, device: torch.device) -> None:
        self.net, self.limit, self.device = net, limit, device
        self.calls, self.seconds, self.bridge, self.exceeded = 0, 0.0, 0.0, False
        self.first_input: Tensor | None = None

    def __call__(self, *args: Any, **cond: Any) -> Any:
        return self._evaluated(self.net, *args, **cond)

    def wrap(self, net: Callable[..., Any]) -> Callable[..., Any]:
        """This network for its own, and one counted and timed with it for another that guidance evaluates beside."""
        return self if net is self.net else functools.partial(self._evaluated, net)

    def _evaluated(self, net: Callable[..., Any], *args: Any, **cond: Any) -> Any:
        if self.calls >= self.limit:
            self.exceeded = True
            raise CallsSpent(f"more than the {self.limit} network evaluations that were given")
        if self.first_input is None and args and isinstance(args[0], Tensor):
            self.first_input = args[0].detach().clone()
        self.calls += 1
        began = self.now()
        out = net(*args, **cond)
        self.seconds += self.now() - began
        return out

    def now(self) -> float:
        """The time in seconds, after the device has finished what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Watch:
    """One run's record of a model. Use `model`, whose evaluations are seen.

    first: the states and the time of the first prediction; None where the contender called the network itself.
    lowest: the least time at which the model was evaluated.
    """

    def __init__(self, model: ScoreModel, limit: int, device: torch.device) -> None:
        # Guidance evaluates the network several times for one prediction, which is one call of a solver.
        per_call = 1 if not model.changes else 1 << 20
        self._guided, self._limit = bool(model.changes), limit
        self.network = WatchedNetwork(model.net, limit * per_call, device)
        self.first: tuple[Tensor, float] | None = None
        self.lowest: float | None = None
        self.predictions = 0
        watched = model.map_net(self.network.wrap)
        self.model = watched._with(changes=(*watched.changes, self._seen))

    @property
    def calls(self) -> int:
        """The evaluations counted: of the network, or of the whole model where guidance multiplies them."""
        return self.predictions if self._guided else self.network.calls

    def _seen(self, prediction: Prediction, plain: Any) -> Prediction:
        self.predictions += 1
        if self._guided and self.predictions > self._limit:
            self.network.exceeded = True
            raise CallsSpent(f"more than the {self._limit} evaluations of the model that were given")
        time_ = prediction.level.time
        value = float(time_.min()) if isinstance(time_, Tensor) else float(time_)
        if self.first is None:
            self.first = prediction.x.detach().clone(), value
        self.lowest = value if self.lowest is None else min(self.lowest, value)
        return prediction
