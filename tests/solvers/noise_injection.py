"""Processes, models and runs that the tests of noise injection share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import sdediff as sd

F64 = torch.float64
NCSN = sd.Table.from_sigmas(torch.logspace(-2, 1, 12, dtype=F64))


def first_states(sde: sd.LinearSDE, seed: int = 0) -> Tensor:
    return sde.prior_std() * torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))


def model_on(sde: sd.LinearSDE) -> sd.ScoreModel:
    return sd.target("target_m").model(sde)


def run_on(sde: sd.LinearSDE, solver: sd.Solver, times: Any, **options: Any) -> Tensor:
    return sd.sample(model_on(sde), x=first_states(sde), solver=solver, grid=times, denoise=False, **options)
