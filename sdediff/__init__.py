"""sdediff: score-based SDEs and ODEs with pluggable solvers."""

from __future__ import annotations

import importlib
from typing import Any

from sdediff import guidance as guide
from sdediff import latent
from sdediff.brownian import Brownian
from sdediff.grid import grid
from sdediff.levels import Level, level, levels
from sdediff.losses import loss
from sdediff.model import ScoreModel, reschedule
from sdediff.noise import Counter, Noise, Stream
from sdediff.prediction import ModelError, Prediction
from sdediff.processes import EDM, VE, VP, Cosine, RectifiedFlow, SubVP
from sdediff.run import State
from sdediff.sampling import Record, decode, encode, iterate, sample
from sdediff.sde import SDE, LinearSDE, SDEError
from sdediff.solvers import Solver, SolverError, solver, solvers
from sdediff.statistics import Statistics, statistics
from sdediff.table import Table

__version__ = "0.1.0"

# Names that pull in more than torch and numpy arrive on first use.
_LAZY = {
    "log_likelihood": "sdediff.likelihood",
    "bits_per_dim": "sdediff.likelihood",
    "Likelihood": "sdediff.likelihood",
    "Discrete": "sdediff.likelihood",
    "sample_with_log_prob": "sdediff.likelihood",
    "path_statistics": "sdediff.likelihood",
    "PathStatistics": "sdediff.likelihood",
    "likelihood_job": "sdediff.likelihood.job",
    "load": "sdediff.hub",
    "save": "sdediff.hub",
    "models": "sdediff.hub",
    "data": "sdediff.hub",
    "analyse": "sdediff.analysis",
    "recommend": "sdediff.analysis",
    "problem": "sdediff.problems",
    "bench": "sdediff.benchmark",
    "testing": "sdediff.testing",
}

__all__ = [
    "EDM", "SDE", "VE", "VP", "Brownian", "Cosine", "Counter", "Level", "LinearSDE", "ModelError", "Noise",
    "Prediction", "Record", "RectifiedFlow", "SDEError", "ScoreModel", "Solver", "SolverError", "State", "Statistics",
    "Stream", "SubVP", "Table", "decode", "encode", "grid", "guide", "iterate", "latent", "level", "levels", "loss",
    "reschedule", "sample", "solver", "solvers", "statistics", *_LAZY,
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'sdediff' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    value = module if _LAZY[name].endswith("." + name) else getattr(module, name)
    globals()[name] = value
    return value
