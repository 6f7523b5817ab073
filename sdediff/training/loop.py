"""The training loop: Adam, a schedule of rates, clipping, averaged weights, checkpoints.

The same seed, settings, machine and number of threads give the same weights to the bit, resumed or not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdediff._utils.checks import flag, function, mapping, shown
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.files import expanded
from sdediff.model.data_card import DataCard
from sdediff.model.data_check import check_range
from sdediff.model.network import parameter_count
from sdediff.model.score_model import ScoreModel, check_card, check_model
from sdediff.training import checkpoints
from sdediff.training.averages import Average, decay_of
from sdediff.training.backend import backend
from sdediff.training.batches import batches_of
from sdediff.training.conditions import null_rows
from sdediff.training.draws import Draws
from sdediff.training.loss_history import LossHistory
from sdediff.training.objective import Objective, TrainingObjective
from sdediff.training.settings import TrainingError, TrainingLog, TrainingSettings
from sdediff.training.validation import Validation, finite
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
    run = _Run(check_model(model), batches, settings, objective or Objective(), device, config or {})
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
    return TrainingLog(tuple(watch.losses), seconds, run.model, first, tuple(watch.checks), memory)


def _check(settings: Any, objective: Any, report: Any, validation: Any) -> None:
    """Refuse what is no settings, no function of so many arguments, or no validation."""
    for name, value, count in (("objective", objective, 4), ("report", report, 2)):
        if value is not None:
            function(name, value, count)
    if validation is not None and not isinstance(validation, Validation):
        raise InputTypeError(f"validation={shown(validation)}: give sd.training.Validation(...)")
    if not isinstance(settings, TrainingSettings):
        raise InputTypeError(f"settings={shown(settings)}: give TrainingSettings(updates=...)")


class _Run:
    """A run in progress."""

    def __init__(
        self, model: ScoreModel, data: Any, settings: TrainingSettings, objective: Any, device: Any, config: Any
    ) -> None:
        if not isinstance(model.net, nn.Module):
            raise TrainingError(f"the model's net is a {type(model.net).__name__}: training needs an nn.Module")
        self.settings, self.objective, self.config = settings, objective, config
        self.backend = backend(settings, device)
        parts = settings.accumulate * self.backend.processes
        if settings.batch % parts:
            raise TrainingError(f"batch={settings.batch} in {parts} parts, processes x accumulate: give a multiple")
        labels = "label" in null_rows(model.net) or bool(getattr(objective, "needs_labels", False))
        self.batches = batches_of(data, DataCard.of(model.card).bounds, settings.seed, settings.updates, labels)
        process = model.sde if isinstance(model.sde, nn.Module) else nn.Identity()
        self.model, self.modules = model, nn.ModuleDict({"net": model.net, "process": process})
        self.modules.to(self.backend.device).train()
        if not any(p.requires_grad for p in model.net.parameters()):  # as `sd.load` leaves it; else some may be frozen
            model.net.requires_grad_(True)
        self.average = Average(self.modules)
        self.parameters = [p for p in self.modules.parameters() if p.requires_grad]
        if not self.parameters:
            raise TrainingError(f"{type(model.net).__name__} has no weights: give a network to train")
        kind = torch.optim.AdamW if settings.decay else torch.optim.Adam
        optimiser = kind(self.parameters, lr=settings.rate, betas=(0.9, 0.99), weight_decay=settings.decay, fused=True)
        net, self.optimiser = self.backend.prepare(model.net, optimiser)
        self.called, self.wrapped = model._with(net=net), net
        self.progress = checkpoints.Progress(
            self.modules, self.average.modules, optimiser, getattr(objective, "state", None)
        )
        self.out: Path | None = None
        self.unseen = True

    def begin(self, out: Path | None, resume: bool) -> int:
        """Go on from the newest checkpoint of the folder, else write the first: the number of the first update."""
        self.out = out
        if out is None:
            return 0
        found = checkpoints.check_out(out, resume)
        if found:
            self.backend.restore(checkpoints.read(found[-1], self.progress, self.settings).get("backend", {}))
        else:
            self.save()
        return self.progress.done

    def update(self, update: int) -> float:
        """One update of the optimiser; returns the mean loss of the whole batch."""
        settings, rank = self.settings, self.backend.rank
        self._seed((settings.seed * 1000003 + update * 1009 + rank) % 2**63)
        size = settings.batch // (settings.accumulate * self.backend.processes)
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), dtype=torch.float64)
        for part in range(settings.accumulate):
            first = (rank * settings.accumulate + part) * size
            losses = self._losses(update, range(first, first + size))
            mean = losses.mean() / settings.accumulate
            with self.backend.part(self.wrapped, part == settings.accumulate - 1):
                self.backend.backward(mean)
            total += mean.detach().double().cpu()
        value = self.backend.gather(total[None]).mean().item()
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} at update {update}: lower rate={settings.rate}")
        self._step(update)
        return value

    def _seed(self, seed: int) -> None:
        """Seed what dropout alone draws from."""
        if self.backend.device.type == "cpu":
            # torch.manual_seed would queue a seed and a stack trace for each kind of accelerator, at a millisecond.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _losses(self, update: int, rows: range) -> Tensor:
        share, device = self.batches.take(update, self.settings.batch, rows), self.backend.device
        if self.unseen:
            check_range(self.model, share.x, "batches", 5)
            self.unseen = False
        check_card(self.model, share.x.shape)
        cond = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in share.cond.items()}
        draws = Draws(self.settings.seed, update, share.first, share.total)
        return self.objective(self.called, share.x.to(device), cond, draws)

    def _step(self, update: int) -> None:
        self.backend.average(self.modules["process"].parameters())
        self.backend.clip(self.parameters, self.settings.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate_at(update)
        self.optimiser.step()
        self.progress.done = update + 1
        self.average.follow(self.modules, decay_of(self.settings, update + 1))
        if isinstance(self.progress.state, LossHistory):
            self.progress.state.settle(self.backend.gather if self.backend.processes > 1 else None)

    def due(self, done: int) -> bool:
        """Whether a checkpoint is to be written after so many updates."""
        every = self.settings.save_every
        return self.out is not None and (done == self.settings.updates or (bool(every) and done % every == 0))

    def save(self) -> None:
        """Write a checkpoint, by the first process."""
        if self.out is not None and self.backend.rank == 0:
            facts = {"backend": self.backend.state(), "config": self.config}
            checkpoints.write(self.out, self.progress, self._averaged(), self.settings, facts)
        self.backend.wait()

    def validate(self, validation: Validation, watch: Watch) -> None:
        """Measure the averaged weights on held-out rows, by the first process."""
        if self.backend.rank == 0:
            device, model = self.backend.device, self._averaged()
            figures = finite(validation.measure(model, self.objective, self.settings.seed, device))
            path = None if self.out is None else self.out / "samples" / f"update-{self.progress.done:08d}.png"
            drawn = None if path is None else validation.draw(model, path, device)
            watch.checked(self.progress.done, figures, drawn)
        self.backend.wait()

    def _averaged(self) -> ScoreModel:
        net, process = self.average.modules.get_submodule("net"), self.average.modules.get_submodule("process")
        return self.model._with(net=net, sde=process if isinstance(self.model.sde, nn.Module) else self.model.sde)

    def finish(self) -> None:
        """Leave the averaged weights in the model, and a folder of it where there is one for checkpoints."""
        self.modules.load_state_dict(self.average.modules.state_dict())
        self.modules.eval()
        if isinstance(self.model.sde, nn.Module):
            self.model.sde.requires_grad_(False)
        if self.out is not None and self.backend.rank == 0:
            from sdediff.hub import save

            save(self.model, self.out / "model", card={**self.model.card, "training": self._card()})

    def _card(self) -> dict[str, Any]:
        about = self.model.card.get("training")
        facts: dict[str, Any] = dict(about) if isinstance(about, dict) else {}
        facts |= {"objective": repr(self.objective), "settings": repr(self.settings)}
        facts["parameters"] = parameter_count(self.model.net)
        with suppress(TypeError, ValueError):
            facts["config"] = json.loads(json.dumps(self.config))
        return facts
