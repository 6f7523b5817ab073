"""CFG++: x0 from the guided prediction, the noise that is put back from the unconditional one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from sdediff._utils.checks import number
from sdediff._utils.tensors import per_sample
from sdediff.guidance.changes import map_prediction, with_x0
from sdediff.guidance.pairs import Pair, check_conditions, negative_conditions
from sdediff.model.bound import BoundModel
from sdediff.model.prediction import ModelError, Prediction
from sdediff.model.score_model import ScoreModel

_NEEDS = "cfg_plus_plus predicts x0 and eps that belong to different data, which only solver='renoise' puts together"


class TwoPredictions(Prediction):
    """x0 of one prediction and eps of another: what is formed from x and one of them is refused."""

    __slots__ = ("_eps", "_x0")

    def __init__(self, of: Prediction, x0: Tensor, eps: Tensor) -> None:
        super().__init__(of.x, x0, of.level, of.extra)
        self._x0, self._eps = x0, eps

    def mix(self, c: Any = 0.0, **weights: Any) -> Tensor:
        if isinstance(c, Tensor) or c or set(weights) != {"x0", "eps"}:
            self._refuse()
        return sum((per_sample(w, self.x) * self._quantity(name) for name, w in weights.items()), start=0 * self.x)

    def _quantity(self, name: str) -> Tensor:
        if name not in ("x0", "eps"):
            self._refuse()
        return self._x0 if name == "x0" else self._eps

    def pair(self, name: str) -> tuple[Any, Any]:
        self._refuse()

    def scaled(self, **weights: float) -> tuple[float, Tensor]:
        self._refuse()

    def factored(self, name: str) -> tuple[float, Tensor]:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ModelError(_NEEDS)


@dataclass(frozen=True)
class PlusPlus:
    """The change of `cfg_plus_plus`."""

    scale: float
    negative: dict[str, Any]

    def refuses(self, solver: Any) -> str | None:
        """Why no run with this solver is right, or None."""
        return None if solver.two_predictions else f"{_NEEDS}: write it"

    def bind(self, model: BoundModel) -> Any:
        """The evaluation x, t -> prediction of one run."""
        check_conditions(model, self.negative, "cfg_plus_plus")
        pair = Pair(model, self.negative)

        def evaluate(x: Tensor, t: Any) -> Prediction:
            given, other = pair(x, t)
            x0 = torch.lerp(other.x0, given.x0, self.scale)
            return TwoPredictions(given, x0, other.eps)

        return evaluate


def cfg_plus_plus(model: ScoreModel, scale: float, *, negative: dict[str, Any] | None = None) -> ScoreModel:
    """x0 = D_neg + scale (D_cond - D_neg), scale in [0, 1], put back to noise with eps of the negative prediction.

    A step of solver="renoise" is classifier-free guidance with the scale alpha_s scale / (alpha_s - alpha_t
    sigma_s/sigma_t), which grows as steps get shorter. Other solvers are refused. negative: as in `classifier_free`.
    Chung et al. 2024.
    """
    model = with_x0(model, "cfg_plus_plus")
    if not 0 <= number("scale", scale) <= 1:
        raise ModelError(f"scale={scale}: that of cfg_plus_plus lies in [0, 1]")
    return map_prediction(model, PlusPlus(float(scale), negative_conditions(model, negative, "cfg_plus_plus")))
