"""The whitened basis where every dimension or direction has a scale of its own, beside one scale at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.model.data_statistics import Statistics
from sdediff.solvers.weights import Rule, Weights, whitened
from sdediff.solvers.whitened import Integrals

F64 = torch.float64
SPREADS = {"narrow": (0.4, 0.6), "pixels": (0.05, 0.6), "wide": (1e-3, 5.0), "equal": (0.3, 0.3)}


def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return 0.5 * torch.tanh(x) + 0.4 * x


@pytest.mark.parametrize("variable", ["angle", "lam"])
@pytest.mark.parametrize("steps", [8, 40])
@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize(("dtype", "error"), [(F64, 3e-10), (torch.float32, 2e-6)])
def test_the_weights_of_many_scales_are_those_of_each(name, steps, variable, dtype, error):
    """In float64 to what is left of angles near pi/2, whose differences the polynomials are made of."""
    scale, sde = np.geomspace(*SPREADS[name], 50), sd.VP()
    levels, counts = sd.levels(sde, sd.grid("log_snr", sde, steps)), np.minimum(np.arange(steps) + 1, 3)
    integrals = Integrals(levels, variable, 0.5, counts, counts[:0], torch.finfo(dtype).eps)
    on_x, on_outputs = (v.double().numpy() for v in integrals.at(torch.from_numpy(scale**2).to(dtype)))
    weights = Weights(levels, Rule("F", variable, 0.5), scale[None])
    np.testing.assert_allclose(on_x, weights.transfer, rtol=error)
    start = np.arange(steps)
    expected = weights.of(start, np.zeros_like(start), counts)
    # Outputs are those of the weights over their own weight of x0.
    on_x0 = whitened(weights.columns(np.s_[:]), scale)[1]
    for j in range(3):
        expected[j:, j] *= on_x0[: steps - j]
    most = np.abs(expected).max(axis=(1, 2), keepdims=True)
    assert (np.abs(on_outputs - expected) <= error * most).all(), (np.abs(on_outputs - expected) / most).max()


@pytest.mark.parametrize("corrector_points", [0, 3])
def test_every_coordinate_is_solved_as_if_it_were_alone(corrector_points: int) -> None:
    """Over lam the polynomial of every coordinate has the same places, so the number as a scale gives the same."""
    d = 400
    scale = torch.from_numpy(np.geomspace(0.02, 3.0, d))
    stats = Statistics(torch.zeros(d, dtype=F64), scale**2, torch.eye(d, dtype=F64), scale**2, 1e-6)
    x = torch.randn(3, d, generator=torch.Generator().manual_seed(0), dtype=F64)
    fields: Any = {"variable": "lam", "corrector_points": corrector_points}
    wide = sd.solver("angle", scale="dims", **fields)
    together = sd.sample(sd.ScoreModel(net, sd.VP(), stats=stats), x=x, solver=wide, steps=6)
    for i in (0, 57, 211, 399):
        alone = sd.solver("angle", scale=scale[i].item(), **fields)
        own = sd.sample(sd.ScoreModel(net, sd.VP()), x=x, solver=alone, steps=6)
        # The first outputs are 150 times the states.
        torch.testing.assert_close(together[:, i], own[:, i], rtol=0, atol=1e-10)


@pytest.mark.parametrize("predicts", ["eps", "x0"])
@pytest.mark.parametrize("corrector_points", [0, 3])
def test_few_directions_and_a_rest_are_all_directions_of_which_most_share_a_scale(
    corrector_points: int, predicts: str
) -> None:
    g = torch.Generator().manual_seed(1)
    d, k = 12, 3
    directions = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=F64)).Q
    variances, mean = (
        torch.tensor([4.0, 1.0, 0.5, *[0.09] * (d - k)], dtype=F64),
        torch.randn(d, generator=g, dtype=F64),
    )
    dims = (variances[:, None] * directions**2).sum(0)
    x = torch.randn(2, 3, 4, generator=g, dtype=F64)
    runs = []
    for count, rest in ((k, 0.09), (d, 1e-6)):
        kept = directions[:count].contiguous(), variances[:count], rest
        stats = Statistics(mean.reshape(3, 4), dims.reshape(3, 4), *kept)
        model = sd.ScoreModel(net, sd.VP(), predicts, stats=stats)
        runs.append(sd.sample(model, x=x, solver=sd.solver("angle", scale="pca", corrector_points=corrector_points)))
    torch.testing.assert_close(*runs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("scale", ["dims", "pca"])
def test_a_run_from_where_no_data_are_left_begins_with_one_output(scale: str) -> None:
    """At alpha = 0 half the log-SNR is infinite, and the first step is the whole angle from there."""
    data = torch.randn(64, 5, generator=torch.Generator().manual_seed(2), dtype=F64) * torch.linspace(0.3, 2, 5)
    model = sd.ScoreModel(net, sd.RectifiedFlow(), "x0", stats=sd.statistics(data))
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(3), dtype=F64)
    solver = sd.solver("angle", scale=scale, corrector_points=0)
    runs = [sd.sample(model, x=x, solver=solver, grid=[t, 0.7, 0.4, 0.1]) for t in (1.0, 1 - 1e-9)]
    torch.testing.assert_close(*runs, rtol=0, atol=1e-6)
