"""A value of another kind in any argument of the longer functions: one sentence that names the argument."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from tests.test_truth.fuzz_cases import MODELS, WRONG, X

MODEL = MODELS[0]
RECORD = sd.sample(MODEL, (4, 2), steps=3, solver="ancestral", full=True, log_prob="steps")
NETWORK = sd.ScoreModel(sd.nets.MLP(2, 4), sd.VP())
TWO = torch.tensor([1.0, 2.0])
NO_LIST = [value for value in WRONG if value is not None and not isinstance(value, list | tuple | range | dict)]
NO_LIST = [value for value in NO_LIST if np.ndim(value) == 0]
NO_DICT = [1, "x", [], X, np.ones(2), sd.VP]


def _bench(**options: Any) -> Any:
    return sd.bench(
        **{"models": [MODEL], "solvers": ["ddim"], "calls": [3], "data": X.repeat(9, 1), "check": False, **options}
    )


# What is called with the wrong value, its argument, and the values that are wrong.
CASES: dict[str, tuple[Any, str, list[Any]]] = {
    "bench, calls": (lambda v: _bench(calls=v), "calls", [*NO_LIST, [], [2.5], ["3"]]),
    "bench, tolerances": (lambda v: _bench(tolerances=v), "tolerances", [*NO_LIST, ["1"], [math.nan]]),
    "bench, solvers": (lambda v: _bench(solvers=v), "solvers", NO_LIST),
    "bench, models": (lambda v: _bench(models=v), "models", NO_LIST),
    "bench, grids": (lambda v: _bench(grids=v), "grids", NO_LIST),
    "bench, seed": (lambda v: _bench(seed=v), "seed", ["x", None, X, 2.5, -1]),
    "bench, device": (lambda v: _bench(device=v), "device", ["nonsense", "meta", sd.VP(), 10**30]),
    "recommend": (lambda v: sd.recommend(MODEL, v), "shape", [*NO_LIST, [X], [TWO, 1]]),
    "save, card": (lambda v: sd.save(NETWORK, "unused", card=v), "card", NO_DICT),
    "save, data": (lambda v: sd.save(NETWORK, "unused", data=v), "data", NO_DICT),
    "save, config": (lambda v: sd.save(NETWORK, "unused", config=v), "config", NO_DICT),
    "train, config": (lambda v: sd.train(NETWORK, X, config=v), "config", NO_DICT),
    "train, tensorboard": (lambda v: sd.train(NETWORK, X, tensorboard=v), "tensorboard", [1, "x", TWO]),
    "train, device": (lambda v: sd.train(NETWORK, X, device=v), "device", ["nonsense", "", object(), "cuda:99"]),
    "sample, shape beside x": (lambda v: sd.sample(MODEL, v, x=X, steps=2), "shape", [math.nan, X, object(), "42"]),
    "discrete": (lambda v: sd.log_likelihood(MODEL, X, method="vlb", discrete=v), "discrete", [4, {}, "x", TWO]),
    "end": (lambda v: sd.log_likelihood(MODEL, X, method="vlb", end=v), "end", [TWO, 1, {}, np.ones(2)]),
    "prior": (
        lambda v: sd.log_likelihood(MODEL, X, prior=lambda x: v, rtol=0.3, atol=0.3),
        "prior",
        [1, None, TWO, torch.zeros(4, 1), torch.zeros(()), torch.zeros(4, dtype=torch.complex64)],
    ),
    "replay, cond": (lambda v: sd.replay(RECORD, MODEL, cond=v), "cond", NO_DICT),
    "replay, grad": (lambda v: sd.replay(RECORD, MODEL, grad=v), "grad", [1, TWO, "x", np.ones(2)]),
    "path_kl, grad": (lambda v: sd.path_kl(RECORD, MODEL, MODEL, grad=v), "grad", [1, TWO, np.array(2)]),
    "smc": (lambda v: sd.smc(MODEL, (4, 2), v, steps=2), "log_tilt", [1, None, "x", TWO]),
    "bench, targets": (lambda v: sd.bench(targets=v, solvers=["ddim"], calls=[2]), "targets", NO_LIST),
    "bench, device of targets": (
        lambda v: sd.bench(targets=["ring"], solvers=["ddim"], calls=[2], device=v),
        "device",
        ["nonsense", "cuda:99", sd.VP()],
    ),
    "infer, processes": (lambda v: sd.infer(MODEL, X.repeat(20, 1), processes=v), "processes|alpha", [*NO_LIST, [1]]),
    "infer, cond": (lambda v: sd.infer(MODEL, X, cond=v), "cond|rows", NO_DICT),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence(name: str) -> None:
    call, argument, values = CASES[name]
    for value in values:
        with pytest.raises(sd.Error, match=argument) as caught:
            call(value)
        assert "\n" not in str(caught.value)


def _scored(folder: Path, **options: Any) -> Any:
    return sd.likelihood_job(
        **{"model": MODEL, "data": X, "out": folder, "rtol": 0.3, "atol": 0.3, "probes": 2, "check": False, **options},
        progress=False, say=lambda line: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("model", [True, object(), sd.VP(), 1]),
        ("limit", [math.nan, TWO, object(), 2.5]),
        ("draws", [[X], 1.5, "2"]),
        ("part", [{}, b"0/1", TWO, "1"]),
        ("data", [torch.tensor(3), X.to_sparse(), 3]),
        ("dtype", [[X], torch.int64, "float32"]),
        ("device", ["nonsense", "meta", sd.VP()]),
        ("cond", [1, "x", X]),
    ],
)
def test_a_job_says_it_too(argument: str, values: list[Any], tmp_path: Path) -> None:
    for value in values:
        with pytest.raises(sd.Error, match="ScoreModel" if argument == "model" else argument):
            _scored(tmp_path / "job", **{argument: value})


def test_whole_numbers_of_numpy_are_whole_numbers_of_a_job(tmp_path: Path) -> None:
    plain = _scored(tmp_path / "plain", seed=3, limit=3)
    numpy = _scored(tmp_path / "numpy", seed=np.int64(3), limit=np.int64(3), draws=np.int64(1))
    assert numpy.log_prob == plain.log_prob
    quiet: dict[str, Any] = {"shape": (2,), "steps": 2, "progress": False, "say": lambda line: None}
    sd.sample_job(MODEL, tmp_path / "one", samples=2, seed=4, **quiet)
    sd.sample_job(MODEL, tmp_path / "two", samples=np.int64(2), seed=np.int64(4), index=np.int64(0), **quiet)
    first, second = (np.load(tmp_path / name / "samples.npz")["x"] for name in ("one", "two"))
    assert np.array_equal(first, second)


def test_a_network_of_nan_has_no_density_of_steps() -> None:
    for call in (sd.replay, lambda record, model: sd.path_kl(record, MODEL, model)):
        with pytest.raises(sd.Error, match="NaN in step 0"):
            call(RECORD, MODELS[-1])
