"""What the fuzz calls besides: functions that measure, train, write folders or score paths."""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path
from typing import Any

import torch

import sdediff as sd
from tests.test_truth.fuzz_cases import MODELS, TABLE, X

_FOLDER = tempfile.TemporaryDirectory()
_NUMBERS = itertools.count()
# As many rows as a check and an inference need.
_ROWS = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
_RECORD = sd.sample(MODELS[0], (4, 2), steps=3, solver="ancestral", full=True, log_prob="steps")
_LOOSE = {"rtol": 0.3, "atol": 0.3}
_QUIET: dict[str, Any] = {"check": False, "progress": False, "say": lambda line: None}


def _new() -> str:
    """A folder that no call has had."""
    return str(Path(_FOLDER.name) / str(next(_NUMBERS)))


def _trained(**options: Any) -> Any:
    return sd.train(sd.ScoreModel(sd.nets.MLP(2, 4), sd.VP()), progress=False, **options)


def _saved(**options: Any) -> Any:
    return sd.save(options.pop("trainable"), _new(), **options)


def _scored_job(**options: Any) -> Any:
    return sd.likelihood_job(out=_new(), probes=2, **_LOOSE, **_QUIET, **options)


def _sampled_job(**options: Any) -> Any:
    return sd.sample_job(out=_new(), progress=False, say=_QUIET["say"], **options)


def _bench(budgets: Any, **options: Any) -> Any:
    return sd.bench(calls=budgets, seeds=1, samples=8, likelihoods=0, **_QUIET, **options)


LONGER: dict[str, tuple[Any, str, str]] = {
    "sample_with_log_prob": (
        functools.partial(sd.sample_with_log_prob, **_LOOSE),
        "model shape",
        "trace probes seed index cond micro_batch dtype device end prior",
    ),
    "path_statistics": (
        functools.partial(sd.path_statistics, **_LOOSE),
        "model x",
        "kappa trace probes seed index cond dtype",
    ),
    "two_pass": (
        functools.partial(sd.log_likelihood, **_LOOSE),
        "model x",
        "t0 end prior integrator nodes solver_error discrete frozen autograd micro_batch dtype device",
    ),
    "ode": (
        functools.partial(sd.log_likelihood, method="ode", **_LOOSE),
        "model x",
        "t0 trace end prior gradient variable",
    ),
    "vlb": (
        functools.partial(sd.log_likelihood, method="vlb", steps=3),
        "model x",
        "variance noises fresh end discrete",
    ),
    "check": (sd.check, "model", "data cond range rows seed dtype device"),
    "infer": (sd.infer, "net data", "cond processes seed dtype device"),
    "recommend": (
        functools.partial(sd.recommend, check=False, progress=False),
        "model sample_shape calls candidates starts",
        "seed start stop denoise cond dtype device by",
    ),
    "train": (_trained, "batches training", "device config resume tensorboard"),
    "bench": (_bench, "models solvers budgets data", "targets grids tolerances distances cond seed dtype device"),
    "save": (_saved, "trainable", "card data config"),
    "load": (sd.load, "reference", "device dtype trust"),
    "likelihood_job": (
        _scored_job,
        "model data limit",
        "seed draws dtype device levels range cond part engine workers",
    ),
    "sample_job": (_sampled_job, "model samples", "sample_shape solver steps grid seed index cond dtype device part"),
    "replay": (functools.partial(sd.replay, _RECORD), "model", "cond grad"),
    "path_kl": (functools.partial(sd.path_kl, _RECORD), "model other", "cond grad"),
    "smc": (sd.smc, "model shape log_tilt steps", "seed cond dtype device threshold"),
}
# Arguments by the name that the function gives them, where the pool's is another.
NAMES = {
    "check": {"range": "model_range"},
    "infer": {"net": "network"},
    "train": {"training": "settings"},
    "sample_job": {"sample_shape": "shape"},
}
POOLS: dict[str, list[Any]] = {
    "micro_batch": [2, 256], "kappa": [4, [0.1, 1.0]], "t0": [1e-3, 0.01], "nodes": [1, 3], "frozen": [True, False],
    "end": ["t0", "heat", "noised", "data"], "integrator": ["bosh3", "dopri5", "rk4"], "autograd": [True, False],
    "solver_error": ["measure", "estimate"], "discrete": [sd.Discrete(4)], "gradient": ["direct", "adjoint"],
    "variance": ["small", "large", "learned"], "noises": [1, 2], "fresh": [True, False], "rows": [4, 16],
    "processes": [[sd.VP()], [TABLE]], "sample_shape": [(2,), [2]], "starts": [4], "by": ["both", "rms", "median"],
    "candidates": [["ddim", "heun"], [("euler", "karras")]], "batches": [X, [X], [X, X], "digits"],
    "training": [sd.training.TrainingSettings(updates=2, batch=2)], "config": [None, {}], "resume": [True, False],
    "tensorboard": [False], "models": [[MODELS[0]], {"a": MODELS[1]}], "solvers": [["ddim"], {"mine": "heun"}],
    "budgets": [[3], (4,)], "targets": [["ring"]], "grids": [["uniform"], None], "tolerances": [[0.1]],
    "distances": [["energy"], "energy"], "trainable": [sd.ScoreModel(sd.nets.MLP(2, 4), sd.VP())],
    "card": [{}, {"data": {"shape": [2]}}], "reference": ["digits-vp", "nope", Path("no/folder")], "trust": [(), ["a"]],
    "limit": [1, 3], "draws": [1, 2], "part": [None, "0/1"], "engine": [None, "local"], "workers": [None],
    "samples": [1, 3], "other": MODELS, "log_tilt": [lambda x: -x.square().sum(1).double()], "threshold": [0.5, 0],
    "data": [_ROWS, _ROWS.double(), _ROWS.numpy()],
}  # fmt: skip
