"""A training run: its modules in this process or in shards, one update, checkpoints, figures along the way."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdediff.model.data_card import DataCard
from sdediff.model.data_check import check_range
from sdediff.model.network import parameter_count
from sdediff.model.score_model import ScoreModel, check_card
from sdediff.training import checkpoints
from sdediff.training.averages import Average, decay_of
from sdediff.training.backend import backend
from sdediff.training.batches import batches_of
from sdediff.training.conditions import null_rows
from sdediff.training.draws import Draws
from sdediff.training.loss_history import LossHistory
from sdediff.training.settings import TrainingError, TrainingSettings
from sdediff.training.shards import in_shards, whole
from sdediff.training.validation import Validation, finite
from sdediff.training.watch import Watch


class TrainingRun:
    """A run in progress: the model's modules, their averages, the optimiser, the data, and where it runs."""

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
        self.model, self.given = model, nn.ModuleDict({"net": model.net, "process": process})
        self.given.to(self.backend.device).train()
        if not any(p.requires_grad for p in model.net.parameters()):  # as `sd.load` leaves it; else some may be frozen
            model.net.requires_grad_(True)
        self.modules = self.backend.trained(self.given)
        self.average = Average(self.backend.copy(self.given))
        self.parameters = [p for p in self.modules.parameters() if p.requires_grad]
        if not self.parameters:
            raise TrainingError(f"{type(model.net).__name__} has no weights: give a network to train")
        kind = torch.optim.AdamW if settings.decay else torch.optim.Adam
        # One kernel updates the tensors of a group, which are all in shards or all whole.
        groups = [[p for p in self.parameters if in_shards(p) == sharded] for sharded in (True, False)]
        optimiser = kind(
            [{"params": g} for g in groups if g],
            lr=settings.rate,
            betas=(0.9, 0.99),
            weight_decay=settings.decay,
            fused=True,
        )
        self.wrapped, self.optimiser = self.backend.prepare(self.modules["net"], optimiser)
        self.called = self._with(self.wrapped, self.modules["process"])
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
        """Write a checkpoint, by the first process; what is in shards is gathered by all."""
        if self.out is not None and (self.backend.rank == 0 or self.modules is not self.given):
            model, tensors = self._averaged(), self.progress.tensors()
            if self.backend.rank == 0:
                facts = {"backend": self.backend.state(), "config": self.config}
                checkpoints.write(self.out, self.progress.done, tensors, model, self.settings, facts)
        self.backend.wait()

    def validate(self, validation: Validation, watch: Watch) -> None:
        """Measure the averaged weights on held-out rows, by the first process."""
        model = self._averaged()
        if self.backend.rank == 0:
            device = self.backend.device
            figures = finite(validation.measure(model, self.objective, self.settings.seed, device))
            path = None if self.out is None else self.out / "samples" / f"update-{self.progress.done:08d}.png"
            drawn = None if path is None else validation.draw(model, path, device)
            watch.checked(self.progress.done, figures, drawn)
        self.backend.wait()

    def _averaged(self) -> ScoreModel:
        """The model with the averaged weights; where they are in shards, gathered into the modules that were given."""
        averaged = self.average.modules if self.modules is self.given else self._gathered()
        return self._with(averaged.get_submodule("net"), averaged.get_submodule("process"))

    def _gathered(self) -> nn.Module:
        """The modules that were given, with the averaged weights."""
        self.given.load_state_dict({name: whole(value) for name, value in self.average.modules.state_dict().items()})
        return self.given.eval()

    def _with(self, net: nn.Module, process: nn.Module) -> ScoreModel:
        return self.model._with(net=net, sde=process if isinstance(self.model.sde, nn.Module) else self.model.sde)

    def finish(self) -> None:
        """Leave the averaged weights in the model, and a folder of it where there is one for checkpoints."""
        self._gathered()
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
