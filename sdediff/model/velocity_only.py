"""Predictions of networks that know the velocity of a flow and no score."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sdediff.model.prediction import ModelError, Prediction

WHY = (
    "this model is marked velocity_only: its noise was paired with its data in training, so its flow is right and a "
    "score converted from it is not"
)


class VelocityOnly(Prediction):
    """The prediction of a model marked velocity_only: the score is refused; combinations that move along the flow stay.

    x0 and eps are affine in the velocity here, which solvers of the flow combine; they are no expectations.
    """

    __slots__ = ("_of",)

    def __init__(self, of: Prediction) -> None:
        super().__init__(of.x, of.raw, of.level, of.extra)
        self._of = of

    def pair(self, name: str) -> tuple[Any, Any]:
        _check(name)
        return self._of.pair(name)

    def mix(self, c: Any = 0.0, **weights: Any) -> Tensor:
        _check(*weights)
        return self._of.mix(c, **weights)

    def scaled(self, **weights: float) -> tuple[float, Tensor]:
        _check(*weights)
        return self._of.scaled(**weights)

    def factored(self, name: str) -> tuple[float, Tensor]:
        _check(name)
        return self._of.factored(name)

    def _quantity(self, name: str) -> Tensor:
        _check(name)
        return self._of._quantity(name)


def _check(*names: str) -> None:
    if "score" in names:
        raise ModelError(f"{WHY}: use its velocity, or train with independent noise")
