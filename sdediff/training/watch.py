"""What is seen of a run: its losses, a bar with the time left, divergence, and the request to stop."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdediff._utils.progress import track
from sdediff.datasets import needed
from sdediff.training.settings import TrainingError, TrainingSettings

# A run diverges where its loss, smoothed, is so many times the least that it has been.
_MOST, _SMOOTH = 1000.0, 0.98


class Watch:
    """Keeps the losses, shows progress, and turns Ctrl-C and SIGTERM into `stopped` while it is entered."""

    def __init__(
        self, settings: TrainingSettings, show: bool | None, report: Callable[[int, float], None] | None
    ) -> None:
        self.settings, self.show, self.report = settings, show, report
        self.losses: list[float] = []
        self.stopped = False
        self._smooth = self._least = 0.0
        self._bar: Any = None
        self._handlers: dict[int, Any] = {}
        self._log: Any = None
        self.checks: list[dict[str, Any]] = []
        self._out: Path | None = None
        self._board: Any = None

    def __enter__(self) -> Watch:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {n: signal.signal(n, self._stop) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._bar is not None:
            self._bar.close()
        for writer in (self._log, self._board):
            if writer is not None:
                writer.close()

    def _stop(self, number: int, frame: Any) -> None:
        if self.stopped:  # asked twice: without waiting for the update and its checkpoint
            raise KeyboardInterrupt
        self.stopped = True

    def begin(self, first: int, out: Path | None, tensorboard: bool = False) -> None:
        """Show the updates that are left, and go on with log.jsonl in the folder, a line an update."""
        left, self._out = self.settings.updates - first, out
        if out is not None:
            path = out / "log.jsonl"
            before = path.read_text(encoding="utf-8").splitlines(keepends=True)[:first] if path.is_file() else []
            path.write_text("".join(before), encoding="utf-8")
            self._log = path.open("a", encoding="utf-8", buffering=1)
            self._go_on_with(out / "checks.jsonl", first)
            if tensorboard:
                needed("tensorboard", "sdediff[train]")
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first)
        self._bar = (item for item in track(range(left), left, "training", self.show))

    def _go_on_with(self, path: Path, first: int) -> None:
        """Leave out the checks of updates that will be made again."""
        if path.is_file():
            kept = [row for row in path.read_text(encoding="utf-8").splitlines() if json.loads(row)["update"] <= first]
            path.write_text("".join(f"{row}\n" for row in kept), encoding="utf-8")

    def made(self, update: int, loss: float) -> None:
        """Take in the loss of an update. TrainingError where the run diverges."""
        self.losses.append(loss)
        next(self._bar, None)
        if self._log is not None:
            self._log.write(json.dumps({"update": update, "loss": loss, "rate": self.settings.rate_at(update)}) + "\n")
        if self._board is not None:
            self._board.add_scalar("loss", loss, update)
            self._board.add_scalar("rate", self.settings.rate_at(update), update)
        self._smooth = loss if len(self.losses) == 1 else _SMOOTH * self._smooth + (1 - _SMOOTH) * loss
        self._least = self._smooth if len(self.losses) == 1 else min(self._least, self._smooth)
        if self._least > 0 and self._smooth > _MOST * self._least and update >= self.settings.warmup:
            rate = self.settings.rate_at(update)
            raise TrainingError(
                f"training diverges: at update {update} the loss is {loss:.4g}, {self._smooth / self._least:.0f} times "
                f"its least, at the rate {rate:.3g}: lower rate={self.settings.rate}, or raise warmup="
                f"{self.settings.warmup}"
            )
        if self.report is not None:
            self.report(update, loss)

    def checked(self, done: int, figures: dict[str, Any], grid: Path | None) -> None:
        """Take in the figures of a validation after `done` updates, and its grid of samples."""
        self.checks.append({"update": done, **figures})
        if self._out is not None:
            with (self._out / "checks.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.checks[-1]) + "\n")
        if self._board is None:
            return
        for name, value in figures.items():
            if value is not None:
                self._board.add_scalar(name, value, done)
        if grid is not None:
            from PIL import Image

            with Image.open(grid) as image:
                pixels = torch.from_numpy(np.array(image.convert("L")))
            self._board.add_image("samples", pixels[None], done)
