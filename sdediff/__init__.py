"""sdediff: score-based SDEs and ODEs with pluggable solvers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sdediff import grids, guidance, model, noise, sampling, sde, solvers
from sdediff._utils.errors import DataWarning, Error, NameWarning, StepsWarning, WiringWarning
from sdediff.grids import Level, grid, level
from sdediff.grids.levels import levels
from sdediff.model import Clock, ModelError, Prediction, ScoreModel, Statistics, reschedule, statistics
from sdediff.noise import Brownian, Counter, Noise, Stream
from sdediff.sampling import Sampler, SampleRecord, State, decode, encode, iterate, latent, sample
from sdediff.sde import EDM, SDE, VE, VP, Cosine, LearnedVP, LinearSDE, RectifiedFlow, SDEError, SubVP, Table
from sdediff.solvers import Solver, SolverError, list_solvers, solver

if TYPE_CHECKING:
    from sdediff import (
        adapters,
        analysis,
        benchmark,
        bridges,
        datasets,
        hub,
        inverse,
        jobs,
        likelihood,
        metrics,
        nets,
        paths,
        targets,
        testing,
        training,
        wiring,
    )
    from sdediff.analysis import analyse, recommend
    from sdediff.benchmark import bench
    from sdediff.bridges import from_diffusers, from_edm, from_guided_diffusion, from_k_diffusion, from_score_sde
    from sdediff.hub import data, load, models, save
    from sdediff.jobs import likelihood_job, sample_job
    from sdediff.likelihood import (
        Discrete,
        Likelihood,
        LikelihoodSettings,
        PathStatistics,
        bits_per_dim,
        log_likelihood,
        path_statistics,
        sample_with_log_prob,
    )
    from sdediff.paths import path_kl, replay, smc
    from sdediff.targets import target
    from sdediff.training import loss, train
    from sdediff.wiring import Inference, WiringReport, check, infer

__version__ = "0.2.0"

# Names that pull in more than torch and numpy arrive on first use: a room, or what a room offers.
_LAZY = {
    "log_likelihood": "likelihood",
    "bits_per_dim": "likelihood",
    "Likelihood": "likelihood",
    "LikelihoodSettings": "likelihood",
    "Discrete": "likelihood",
    "sample_with_log_prob": "likelihood",
    "path_statistics": "likelihood",
    "PathStatistics": "likelihood",
    "replay": "paths",
    "path_kl": "paths",
    "smc": "paths",
    "likelihood_job": "jobs",
    "sample_job": "jobs",
    "load": "hub",
    "save": "hub",
    "models": "hub",
    "data": "hub",
    "analyse": "analysis",
    "recommend": "analysis",
    "target": "targets",
    "bench": "benchmark",
    "from_diffusers": "bridges",
    "from_edm": "bridges",
    "from_guided_diffusion": "bridges",
    "from_k_diffusion": "bridges",
    "from_score_sde": "bridges",
    "loss": "training",
    "train": "training",
    "WiringReport": "wiring",
    "infer": "wiring",
    "Inference": "wiring",
    "check": "wiring",
}
_ROOMS = (
    "adapters", "analysis", "benchmark", "bridges", "datasets", "hub", "inverse", "jobs", "likelihood", "metrics",
    "nets", "paths", "targets", "testing", "training", "wiring",
)  # fmt: skip

__all__ = [
    "EDM", "SDE", "VE", "VP", "Brownian", "Clock", "Cosine", "Counter", "DataWarning", "Discrete", "Error",
    "Inference",
    "LearnedVP", "Level", "Likelihood", "LikelihoodSettings", "LinearSDE", "ModelError", "NameWarning", "Noise",
    "PathStatistics", "Prediction", "RectifiedFlow", "SDEError", "SampleRecord", "Sampler", "ScoreModel", "Solver",
    "SolverError", "State", "Statistics", "StepsWarning", "Stream", "SubVP", "Table", "WiringReport",
    "WiringWarning",
    "adapters", "analyse",
    "analysis", "bench", "benchmark", "bits_per_dim", "bridges", "check", "data", "datasets", "decode", "encode",
    "from_diffusers", "from_edm", "from_guided_diffusion", "from_k_diffusion", "from_score_sde", "grid", "grids",
    "guidance", "hub", "infer", "inverse", "iterate", "jobs", "latent", "level", "levels", "likelihood",
    "likelihood_job", "list_solvers",
    "load", "log_likelihood", "loss", "metrics", "model", "models", "nets", "noise", "path_kl", "path_statistics",
    "paths", "recommend", "replay", "reschedule", "sample", "sample_job", "sample_with_log_prob", "sampling", "save",
    "sde", "smc", "solver", "solvers",
    "statistics", "target", "targets", "testing", "train", "training", "wiring",
]  # fmt: skip


def _auto(*args: Any, **options: Any) -> Any:
    """solver="auto": the choice of `sdediff.analysis`."""
    from sdediff.analysis import auto

    return auto(*args, **options)


def _tuned(*args: Any, **options: Any) -> Any:
    """grid="tuned": the grid of `sdediff.analysis`."""
    from sdediff.analysis import tuned

    return tuned(*args, **options)


# Names that rooms further down offer and that are made of what stands above them.
sampling.CHOOSERS["auto"] = _auto
grids.GRIDS["tuned"] = _tuned


if not TYPE_CHECKING:  # to a type checker every name is one of the imports above, and no other exists

    def __getattr__(name: str) -> Any:
        if name in _ROOMS:
            return importlib.import_module(f"sdediff.{name}")
        if name not in _LAZY:
            raise AttributeError(f"module 'sdediff' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"sdediff.{_LAZY[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
