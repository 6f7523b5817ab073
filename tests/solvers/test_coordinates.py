"""Coefficients of many coordinates, from those at few scales."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.model.data_statistics import Axes, Statistics
from sdediff.solvers.coordinates import Scales

F64 = torch.float64
SPREADS = {"narrow": (0.4, 0.6), "pixels": (0.05, 0.6), "wide": (1e-3, 5.0), "equal": (0.3, 0.3)}


def _like(dtype: torch.dtype) -> Any:
    return SimpleNamespace(dtype=dtype, device=torch.device("cpu"))


@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize(("dtype", "error"), [(F64, 2e-13), (torch.float32, 2e-6)])
def test_functions_of_the_scale_are_interpolated_to_the_states_accuracy(name, dtype, error):
    scale = np.geomspace(*SPREADS[name], 1000)
    scales = Scales(Axes(scale, torch.zeros(1000), None), _like(dtype))
    assert len(scales.nodes) < 150
    for kappa in (1e-3, 0.1, 1.0, 50.0):
        for function in (lambda p, k=kappa: np.arctan(k / p), lambda p, k=kappa: p / np.hypot(k, p)):
            found = scales.spread(function(scales.nodes)[None])
            assert found.shape == (1, 1000)
            assert found.dtype is dtype
            np.testing.assert_allclose(found[0].double().numpy(), function(scale), rtol=0, atol=error)


def test_few_coordinates_are_computed_one_by_one() -> None:
    scale = np.array([0.1, 0.5, 2.0])
    scales = Scales(Axes(scale, torch.zeros(3), None), _like(F64))
    assert scales.nodes is scale
    assert scales.spread(scale**2).tolist() == (scale**2).tolist()


def test_coordinates_beside_the_directions_share_a_scale() -> None:
    scales = Scales(Axes(np.array([3.0, 2.0, *[0.5] * 4]), torch.zeros(6), torch.eye(4, dtype=F64)[:2]), _like(F64))
    assert scales.nodes.tolist() == [3.0, 2.0, 0.5]
    assert scales.spread(np.array([[7.0, 8.0, 9.0]])).tolist() == [[7.0, 8.0, 9.0, 9.0, 9.0, 9.0]]


@pytest.mark.parametrize("corrector_points", [0, 3])
def test_every_coordinate_is_solved_as_if_it_were_alone(corrector_points: int) -> None:
    """Over lam the polynomial of every coordinate has the same places, so the number as a scale gives the same."""
    d = 400
    scale = torch.from_numpy(np.geomspace(0.02, 3.0, d))
    stats = Statistics(torch.zeros(d, dtype=F64), scale**2, torch.eye(d, dtype=F64), scale**2, 1e-6)

    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.tanh(x) + 0.4 * x

    x = torch.randn(3, d, generator=torch.Generator().manual_seed(0), dtype=F64)
    fields: Any = {"variable": "lam", "corrector_points": corrector_points}
    wide = sd.solver("angle", scale="dims", **fields)
    together = sd.sample(sd.ScoreModel(net, sd.VP(), stats=stats), x=x, solver=wide, steps=6)
    for i in (0, 57, 211, 399):
        alone = sd.solver("angle", scale=scale[i].item(), **fields)
        own = sd.sample(sd.ScoreModel(net, sd.VP()), x=x, solver=alone, steps=6)
        # The first outputs are 150 times the states.
        torch.testing.assert_close(together[:, i], own[:, i], rtol=0, atol=1e-10)
