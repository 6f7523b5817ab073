"""Compositions: products of models, tempered and negated ones, and posteriors of independent observations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.checks import number, real_tensor, shown
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.tensors import per_sample
from sdediff.guidance.changes import map_prediction, of_x0, with_x0
from sdediff.model.bound import BoundModel
from sdediff.model.network import check_eval
from sdediff.model.prediction import ModelError, Prediction
from sdediff.model.score_model import Net, ScoreModel, reschedule


class _Level(NamedTuple):
    """A sample's own alpha and sigma."""

    alpha: float
    sigma: float


@dataclass(frozen=True, eq=False)
class Product:
    """The change of `product`: the models beside the first one, all weights, and covariances or none."""

    others: tuple[ScoreModel, ...]
    weights: tuple[float, ...]
    covariances: tuple[Tensor, ...] | None = None

    def map_net(self, wrap: Callable[[Net], Net]) -> Product:
        """The same product with the networks of all its models wrapped."""
        return replace(self, others=tuple(model.map_net(wrap) for model in self.others))

    def bind(self, model: BoundModel) -> Any:
        """The evaluation x, t -> prediction of one run."""
        beside = []
        for other in self.others:
            check_eval(other)
            beside.append(model.beside(other.given(**{**model.cond, **other.cond}) if model.cond else other))

        def evaluate(x: Tensor, t: Any) -> Prediction:
            predictions = [model(x, t), *(other(x, t) for other in beside)]
            x0s = [prediction.x0 for prediction in predictions]
            if self.covariances is None:
                return of_x0(predictions[0], self.summed(x, x0s, predictions[0].level))
            return of_x0(predictions[0], self.exact(x, x0s, predictions[0].level))

        return evaluate

    def summed(self, x: Tensor, x0s: list[Tensor], t: Any) -> Tensor:
        """x0 of the weighted sum of scores; a score is (alpha x0 - x)/sigma^2."""
        total = sum(w * x0 for w, x0 in zip(self.weights, x0s, strict=True))
        lack = 1 - sum(self.weights)
        if not lack:
            return torch.as_tensor(total)
        if not (t.alpha.min() if isinstance(t.alpha, Tensor) else t.alpha):
            raise InputError("at alpha = 0 the scores of such a product do not determine x0: start below it")
        return total + per_sample(lack / t.alpha, x) * x

    def exact(self, x: Tensor, x0s: list[Tensor], t: Any) -> Tensor:
        """x0 of the product of Gaussians of these covariances, noised as one density.

        L x0 = sum w_i L_i x0_i + (1 - sum w) (alpha/sigma^2) x with L_i = C_i^-1 + (alpha/sigma)^2 I, the precision of
        x0 given x_t, and L = sum w_i C_i^-1 + (alpha/sigma)^2 I; multiplied by sigma^2 here.
        """
        if isinstance(t.alpha, Tensor):
            ends = zip(t.alpha.expand(len(x)).tolist(), t.sigma.expand(len(x)).tolist(), strict=True)
            each = [(slice(i, i + 1), _Level(*end)) for i, end in enumerate(ends)]
            return torch.cat([self.exact(x[row], [x0[row] for x0 in x0s], level) for row, level in each])
        identity = torch.eye(x[0].numel(), dtype=torch.float64, device=x.device)
        snr, variance = t.alpha**2 * identity, t.sigma**2
        right = (1 - sum(self.weights)) * t.alpha * x.flatten(1).double()
        left = snr.clone()
        for w, x0, precision in zip(self.weights, x0s, self._precisions(x), strict=True):
            right = right + w * x0.flatten(1).double() @ (variance * precision + snr)
            left = left + w * variance * precision
        return torch.linalg.solve(left, right.T).T.to(x).reshape(x.shape)

    def _precisions(self, x: Tensor) -> list[Tensor]:
        found, dim = [], x[0].numel()
        for cov in self.covariances or ():
            if (cov.ndim == 2 and cov.shape != (dim, dim)) or (cov.ndim == 1 and len(cov) != dim):
                raise InputError(f"a covariance has the shape {tuple(cov.shape)} for states of {dim} numbers")
            matrix = cov * torch.eye(dim).double() if cov.ndim == 0 else torch.diag(cov) if cov.ndim == 1 else cov
            found.append(torch.linalg.inv(matrix).to(x.device))
        return found


def product(
    models: Sequence[ScoreModel],
    weights: Sequence[float] | None = None,
    covariances: Sequence[Any] | None = None,
) -> ScoreModel:
    """A model of prod_i p_i(x0)^w_i, on the process of the first one; weights are 1 by default.

    A weight other than 1 tempers a model, a negative one steers away from it. Without covariances scores are summed, so
    that each noised density stands for itself: the sum is the score of the noised product only as the noise vanishes
    (docs/guidance.md has by how much). covariances: of each p_i, a variance, (D,) or (D, D): x0 is then combined by the
    precisions that Gaussians of these covariances have, which is exact where the p_i are Gaussian. Du et al. 2023;
    Linhart et al. 2024.
    """
    if not isinstance(models, list | tuple) or not models or not all(isinstance(m, ScoreModel) for m in models):
        raise InputTypeError(f"models={shown(models)}: give a list of ScoreModels")
    powers = tuple(number("weight", w) for w in (weights if weights is not None else [1.0] * len(models)))
    if len(powers) != len(models):
        raise InputError(f"given {len(models)} models and {len(powers)} weights: give one each")
    first, *rest = (with_x0(model, "product") for model in models)
    others = tuple(other if other.sde is first.sde else reschedule(other, first.sde) for other in rest)
    spreads = None
    if covariances is not None:
        spreads = tuple(real_tensor("covariance", cov).detach() for cov in covariances)
        if len(spreads) != len(models):
            raise InputError(f"given {len(models)} models and {len(spreads)} covariances: give one each")
        _check_positive(powers, spreads)
    return map_prediction(first, Product(others, powers, spreads))


def _check_positive(weights: tuple[float, ...], covariances: tuple[Tensor, ...]) -> None:
    """Refuse covariances that are none, and weights with which the product is no density."""
    dim = max((len(cov) for cov in covariances if cov.ndim), default=1)
    total = torch.zeros(dim, dim).double()
    for w, cov in zip(weights, covariances, strict=True):
        matrix = cov * torch.eye(dim).double() if cov.ndim == 0 else torch.diag(cov) if cov.ndim == 1 else cov
        if matrix.shape != (dim, dim) or not bool((torch.linalg.eigvalsh(matrix) > 0).all()):
            raise InputError(f"{shown(cov)} is no covariance of {dim} dimensions: give a variance, (D,) or (D, D)")
        total += w * torch.linalg.inv(matrix)
    if not bool((torch.linalg.eigvalsh(total) > 0).all()):
        raise ModelError(f"with weights {list(weights)} the precisions do not sum to a positive one: no density")


def tempered(model: ScoreModel, power: float, covariance: Any = None) -> ScoreModel:
    """A model of p(x0)^power, normalised: `product` of one model."""
    return product([model], [power], None if covariance is None else [covariance])


def independent(
    prior: ScoreModel, posteriors: Sequence[ScoreModel], covariances: Sequence[Any] | None = None
) -> ScoreModel:
    """A model of p(x0 | y_1 .. y_n) from p(x0) and every p(x0 | y_i), of observations independent given x0.

    It is p(x0)^(1 - n) prod p(x0 | y_i). covariances: of the prior, then of each posterior; `product` has what they do.
    Posteriors of one conditional network are model.given(y=y_i). Geffner et al. 2023; Linhart et al. 2024.
    """
    return product([prior, *posteriors], [1.0 - len(posteriors), *[1.0] * len(posteriors)], covariances)
