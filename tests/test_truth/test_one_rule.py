"""One rule for one thing: the type of states, and conditions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.analysis.model_paths import paths
from sdediff.jobs.summary import read_results
from sdediff.model.conditions import as_tensors, rows_of_conditions

F64 = torch.float64
RUNS = {
    "sample": lambda m, x, **k: sd.sample(m, x=x, solver="ddim", steps=2, **k),
    "iterate": lambda m, x, **k: list(sd.iterate(m, x=x, solver="ddim", steps=2, **k))[-1].x,
    "Sampler": lambda m, x, **k: sd.Sampler(m, solver="ddim", steps=2, **k)(x=x),
    "encode": lambda m, x, **k: sd.encode(m, x, solver="ddim", steps=2, **k),
    "decode": lambda m, x, **k: sd.decode(m, x, solver="ddim", steps=2, **k),
}


def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return 0.1 * x


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_states_keep_their_type(run: str, dtype: torch.dtype) -> None:
    model, x = sd.ScoreModel(net, sd.VP()), torch.ones(3, 2, dtype=dtype)
    assert RUNS[run](model, x).dtype == dtype
    other = torch.float32 if dtype == F64 else F64
    assert RUNS[run](model, x, dtype=other).dtype == other


ROWS = torch.tensor([2, 0])


@pytest.mark.parametrize(
    ("value", "cut"),
    [
        (torch.arange(3), torch.tensor([2, 0])),
        (torch.arange(6.0).reshape(3, 2), torch.tensor([[4.0, 5.0], [0.0, 1.0]])),
        (np.arange(3), torch.tensor([2, 0])),
        ([5, 6, 7], torch.tensor([7, 5])),
        ([[1.0], [2.0], [3.0]], torch.tensor([[3.0], [1.0]])),
        (torch.ones(4), torch.ones(4)),
        (torch.ones(1, 3), torch.ones(1, 3)),
        (torch.tensor(2.0), torch.tensor(2.0)),
        (0.5, 0.5),
        ("a word", "a word"),
    ],
)
@pytest.mark.parametrize(
    ("nest", "unnest"),
    [
        (lambda v: v, lambda v: v),
        (lambda v: {"a": {"b": v}}, lambda v: v["a"]["b"]),
        (lambda v: (v, None), lambda v: v[0]),
        (lambda v: [None, {"a": (v,)}], lambda v: v[1]["a"][0]),
    ],
)
def test_a_tensor_with_a_row_a_sample_is_cut_and_all_else_is_shared(
    value: Any, cut: Any, nest: Any, unnest: Any
) -> None:
    found = unnest(rows_of_conditions(as_tensors({"y": nest(value)}), ROWS, 3)["y"])
    assert torch.equal(found, cut) if isinstance(cut, torch.Tensor) else found == cut


@pytest.mark.parametrize(
    "value", [torch.tensor([0.1, 0.2, 0.3]), [0.1, 0.2, 0.3], ["a", "b", "c"], {"w": torch.ones(3)}]
)
def test_what_is_open_is_refused_unless_declared(value: Any) -> None:
    cond = as_tensors({"y": value})
    with pytest.raises(sd.Error, match=r'per_sample=\("y",\)\) or ScoreModel\(..., shared=\("y",\)\)'):
        rows_of_conditions(cond, ROWS, 3)
    assert rows_of_conditions(cond, ROWS, 3, shared=("y",))["y"] is cond["y"]
    cut = rows_of_conditions(cond, ROWS, 3, per_sample=("y",))["y"]
    cut = cut["w"] if isinstance(cut, dict) else cut
    assert len(cut) == 2


def test_a_declaration_that_does_not_fit_is_refused() -> None:
    with pytest.raises(sd.Error, match="declared with 3 rows"):
        rows_of_conditions({"y": torch.ones(2)}, ROWS, 3, per_sample=("y",))


@pytest.mark.parametrize("cond", [{"y": np.array(["a"])}, {"y": [[1.0], [1.0, 2.0]]}, {3: 1}, [1], "y"])
def test_conditions_that_are_none(cond: Any) -> None:
    for make in (
        lambda: sd.ScoreModel(net, sd.VP(), cond=cond),
        lambda: sd.sample(sd.ScoreModel(net, sd.VP()), (2, 2), cond=cond),
    ):
        with pytest.raises(sd.Error):
            make()


class _Gained(torch.nn.Module):
    def forward(self, x: torch.Tensor, t: torch.Tensor, gain: Any = None) -> torch.Tensor:
        assert isinstance(gain, torch.Tensor)
        scale = gain[:, None] if gain.ndim == 1 else gain
        return scale * torch.tanh(x * t[:, None])


@pytest.mark.parametrize("solver", ["rk_adaptive", "dpm_adaptive"])
@pytest.mark.parametrize("make", [np.array, list, lambda v: torch.tensor(v, dtype=F64)])
def test_adaptive_solvers_cut_what_is_declared_as_if_each_sample_ran_alone(solver: str, make: Any) -> None:
    gains = [0.1, 1.0, 3.0]
    model = sd.ScoreModel(_Gained(), sd.VP(), predicts="v", per_sample=("gain",))
    x = sd.sample(model, (3, 2), solver=solver, dtype=F64, cond={"gain": make(gains)})
    for i, gain in enumerate(gains):
        alone = sd.sample(model, (1, 2), solver=solver, dtype=F64, index=i, cond={"gain": torch.tensor([gain])})
        assert (alone[0] - x[i]).abs().max() < 1e-6
    open_ = sd.ScoreModel(_Gained(), sd.VP(), predicts="v")
    with pytest.raises(sd.Error, match=r"or give it as \(3, 1\)"):
        sd.sample(open_, (3, 2), solver=solver, dtype=F64, cond={"gain": make(gains)})
    column = torch.tensor(gains)[:, None]
    assert (sd.sample(open_, (3, 2), solver=solver, dtype=F64, cond={"gain": column}) - x).abs().max() < 1e-6


def _shifted(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return 0.1 * (x - y[:, None])


@pytest.mark.parametrize("kind", [torch.as_tensor, np.float32, list])
def test_a_job_takes_the_rows_of_every_kind_of_condition(kind: Any, tmp_path: Any) -> None:
    model = sd.ScoreModel(_shifted, sd.VP(), per_sample=("y",))
    x, y = np.random.default_rng(0).normal(size=(5, 2)), [0.0, 1.0, 2.0, 3.0, 4.0]
    quick: dict[str, Any] = {"trace": "exact", "rtol": 1e-3, "atol": 1e-3}
    sd.likelihood_job(model, x, tmp_path / "job", cond={"y": kind(y)}, micro_batch=2, progress=False, **quick)
    found = torch.as_tensor(read_results(tmp_path / "job")["log_prob"])
    alone = [
        sd.log_likelihood(model, torch.as_tensor(x[i : i + 1]), cond={"y": torch.tensor(y[i : i + 1])}, **quick)
        for i in range(5)
    ]
    torch.testing.assert_close(found, torch.cat([a.log_prob for a in alone]), rtol=0, atol=1e-4)


def test_the_starts_of_a_comparison_take_conditions_of_every_kind_in_turn() -> None:
    model, numbers = sd.ScoreModel(_shifted, sd.VP()), torch.arange(8.0)
    ends = [paths(model, (4, 2), calls=8, cond={"y": y}).end for y in (numbers, numbers.numpy())]
    torch.testing.assert_close(ends[1].double(), ends[0].double())
