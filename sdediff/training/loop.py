"""The training loop: Adam, a schedule of rates, clipping, averaged weights, checkpoints.

The same seed, settings, machine and number of threads give the same weights to the bit, resumed or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdediff._utils.checks import flag, function, mapping, shown
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.files import expanded
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.training.draws import Draws
from sdediff.training.objective import Objective, TrainingObjective
from sdediff.training.run import TrainingRun
from sdediff.training.settings import TrainingLog, TrainingSettings
from sdediff.training.validation import Validation
from sdediff.training.watch import Watch

Losses = Callable[[ScoreModel, Tensor, dict[str, Any], Draws], Tensor]


def build(network: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network whose initial weights depend on the seed only; the global random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network()


def train(
    model: ScoreModel,
    batches: Any,
    settings: TrainingSettings | None = None,
    objective: TrainingObjective | Losses | None = None,
    report: Callable[[int, float], None] | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = True,
    device: str | torch.device = "cpu",
    progress: bool | None = None,
    config: dict[str, Any] | None = None,
    validation: Validation | None = None,
    tensorboard: bool = False,
) -> TrainingLog:
    """Fits model.net in place, a learned process too, and leaves the averaged weights in them, in eval mode.

    batches: an iterator of x (B, ...), (x, label) or {"x": x, ...}; or all data, as a tensor (N, ...), such a pair or a
    DataSet, taken in an order that the seed decides. objective: by default `Objective()`; any function
    (model, x0, cond, draws) -> a loss a sample (B,). report: called with the number of the update and its mean loss.
    out: a folder for checkpoints, from the newest of which a run goes on, for `model` and log.jsonl. config: plain
    values for the checkpoint. validation: figures on held-out rows and grids of samples along the way, in `log.checks`
    and out/checks.jsonl. tensorboard: scalars and grids for TensorBoard too, in out/tensorboard. Ctrl-C saves a
    checkpoint first. TrainingError: training diverges, data are not finite, a checkpoint cannot be written.
    """
    settings = TrainingSettings() if settings is None else settings
    _check(settings, objective, report, validation)
    flag("resume", resume)
    flag("tensorboard", tensorboard)
    if config is not None:
        mapping("config", config, "config={}")
    if tensorboard and out is None:
        raise InputError("tensorboard=True writes to a folder: give out=")
    run = TrainingRun(check_model(model), batches, settings, objective or Objective(), device, config or {})
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]), Watch(settings, progress, report) as watch:
        first = run.begin(None if out is None else expanded(out, "out"), resume)
        watch.begin(first, run.out if run.backend.rank == 0 else None, tensorboard)
        for update in range(first, settings.updates):
            watch.made(update, run.update(update))
            if validation is not None and validation.due(update + 1, settings.updates):
                run.validate(validation, watch)
            if run.due(update + 1) or watch.stopped:
                run.save()
            if watch.stopped:
                raise KeyboardInterrupt
        run.finish()
    seconds, memory = time.perf_counter() - start, run.backend.peak_memory()
    return TrainingLog(tuple(watch.losses), seconds, run.model, first, tuple(watch.checks), memory, run.backend.rank)


def _check(settings: Any, objective: Any, report: Any, validation: Any) -> None:
    """Refuse what is no settings, no function of so many arguments, or no validation."""
    for name, value, count in (("objective", objective, 4), ("report", report, 2)):
        if value is not None:
            function(name, value, count)
    if validation is not None and not isinstance(validation, Validation):
        raise InputTypeError(f"validation={shown(validation)}: give sd.training.Validation(...)")
    if not isinstance(settings, TrainingSettings):
        raise InputTypeError(f"settings={shown(settings)}: give TrainingSettings(updates=...)")
