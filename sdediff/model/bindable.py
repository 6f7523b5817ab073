"""What can be bound to the levels of a run: the protocols of models and of the changes that bind themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sdediff.grids.levels import Evaluation
from sdediff.model.data_statistics import Statistics
from sdediff.model.prediction import Prediction
from sdediff.sde.base import SDE

# How the network is read at one level: the factor of its input (None for 1), its clock (B,), and the pair of
# x0 = a x + b F, None where alpha = 0 and the output does not determine x0.
Row = tuple[Any, Tensor, Any, Any]
Readings = tuple[list[Any], list[Any], list[Any], list[Any]]


class Bindable(Protocol):
    """What is read of a ScoreModel."""

    @property
    def net(self) -> Callable[..., Any]: ...
    @property
    def sde(self) -> SDE: ...
    @property
    def trained(self) -> SDE | None: ...
    @property
    def predicts(self) -> str: ...
    @property
    def time(self) -> Any: ...
    @property
    def sigma_data(self) -> float: ...
    @property
    def offset(self) -> int: ...
    @property
    def output(self) -> str | int | None: ...
    @property
    def cond(self) -> dict[str, Any]: ...
    @property
    def per_sample(self) -> tuple[str, ...]: ...
    @property
    def shared(self) -> tuple[str, ...]: ...
    @property
    def stats(self) -> Statistics | None: ...
    @property
    def velocity_only(self) -> bool: ...
    @property
    def changes(self) -> tuple[Any, ...]: ...


class Table(NamedTuple):
    """What bound models of one run share: levels, the batch's size, a row a level, and the kind of the states.

    kind: their type, their device and the shape of one, None where it is not known.
    """

    evaluation: Evaluation | None
    batch: int
    rows: list[Row]
    kind: tuple[torch.dtype, torch.device, torch.Size] | None

    @property
    def like(self) -> Tensor | None:
        """A tensor like the states that has one number in memory."""
        if self.kind is None:
            return None
        dtype, device, shape = self.kind
        return torch.empty((), dtype=dtype, device=device).expand(self.batch, *shape)


class Binding(Protocol):
    """A change that makes the evaluations of a run itself, from the bound model under the changes before it."""

    def bind(self, model: Any) -> Callable[[Tensor, Any], Prediction]:
        """The function x, t -> prediction of one run; what it carries along lives as long as the run."""


Change = Callable[[Prediction, Any], Prediction] | Binding
