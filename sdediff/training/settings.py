"""Settings of a training run, and the errors of training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sdediff._utils.checks import flag, known, number, whole
from sdediff._utils.errors import Error
from sdediff._utils.suggestions import nearest


class TrainingError(Error, ValueError):
    """Training cannot start or continue; the message says at which update and what to change."""


SCHEDULES = ("cosine", "linear", "constant")
PRECISIONS = ("no", "bf16", "fp16")

_NEEDED: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
    ("updates", "at least 1", lambda v: v >= 1),
    ("batch", "at least 1", lambda v: v >= 1),
    ("accumulate", "at least 1", lambda v: v >= 1),
    ("rate", "a positive learning rate", lambda v: v > 0),
    ("warmup", "a number of updates, 0 for none", lambda v: v >= 0),
    ("clip", "a positive norm", lambda v: v > 0),
    ("average", "a decay in [0, 1)", lambda v: 0 <= v < 1),
    ("average_width", "a relative width in (0, 0.28), or leave it out", lambda v: 0 < v < 0.28),
    ("floor", "a share in [0, 1]", lambda v: 0 <= v <= 1),
    ("decay", "a weight decay, 0 for none", lambda v: v >= 0),
    ("seed", "a whole number in [0, 2**63)", lambda v: 0 <= v < 2**63),
    ("save_every", "a number of updates, 0 for the end alone", lambda v: v >= 0),
    ("keep", "at least 1", lambda v: v >= 1),
)


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training run.

    updates: number of optimiser updates; batch: samples an update, over all processes and accumulated parts;
    accumulate: parts of a batch whose gradients are added; rate: peak learning rate; warmup: updates of its linear
    rise; schedule: "cosine", "linear" or "constant" after it, down to the share `floor`; clip: largest norm of the
    gradient; decay: weight decay (AdamW); average: decay of the averaged weights (0: none), lower in the first updates;
    average_width: the relative width of a power-function average instead (Karras et al. 2024); precision: "no", "bf16"
    or "fp16"; shard: whether processes share one copy of the weights (FSDP) in place of having one each; seed: of the
    order of the data, times and noise; save_every, keep: updates between checkpoints, and how many stay.
    """

    updates: int = 1000
    batch: int = 128
    accumulate: int = 1
    rate: float = 2e-3
    warmup: int = 100
    schedule: str = "cosine"
    floor: float = 0.0
    clip: float = 1.0
    decay: float = 0.0
    average: float = 0.999
    average_width: float | None = None
    precision: str = "no"
    shard: bool = False
    seed: int = 0
    save_every: int = 0
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("updates", "batch", "accumulate", "warmup", "seed", "save_every", "keep"):
            whole(name, getattr(self, name))
        flag("shard", self.shard)
        for name, needed, right in _NEEDED:
            value = getattr(self, name)
            if not (name == "average_width" and value is None) and not right(number(name, value)):
                raise TrainingError(f"{name}={value}: give {needed}")
        for name, names in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if not known(getattr(self, name), names):
                raise TrainingError(nearest(str(getattr(self, name)), names, name))
        if self.batch % self.accumulate:
            raise TrainingError(f"batch={self.batch} in accumulate={self.accumulate} parts: give a multiple")

    def rate_at(self, update: int) -> float:
        """The learning rate of an update, counted from 0."""
        if update < self.warmup:
            return self.rate * (update + 1) / self.warmup
        passed = min(1.0, (update - self.warmup) / max(1, self.updates - self.warmup))
        shape = {"cosine": 0.5 * (1 + math.cos(math.pi * passed)), "linear": 1 - passed, "constant": 1.0}
        return self.rate * (self.floor + (1 - self.floor) * shape[self.schedule])


@dataclass(frozen=True)
class TrainingLog:
    """The mean loss of every update made, the seconds of wall clock, and the trained model.

    first: the update that this run began with, above 0 where it went on from a checkpoint. checks: the figures of its
    Validation, a dictionary each. peak_memory: the most that the process, or its accelerator, has held, in bytes. rank:
    of this process among those that trained together.
    """

    losses: tuple[float, ...]
    seconds: float
    model: Any = None
    first: int = 0
    checks: tuple[dict[str, Any], ...] = ()
    peak_memory: int = 0
    rank: int = 0

    def __repr__(self) -> str:
        last = f"last loss {self.losses[-1]:.4g}, " if self.losses else ""
        return f"TrainingLog({len(self.losses)} updates, {last}{self.seconds:.0f} s)"
