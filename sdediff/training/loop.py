"""The training loop: Adam with warm-up and cosine decay, gradient clipping, averaged weights.

The same seed, settings, machine and number of threads give the same weights to the bit.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sdediff._utils.checks import number, shown, whole
from sdediff._utils.errors import Error, InputTypeError
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.training.denoising import loss

Objective = Callable[[ScoreModel, Tensor, torch.Generator], Tensor]


class TrainingError(Error, ValueError):
    """Training cannot continue; the message says at which update and what to change."""


_NEEDED: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
    ("updates", "at least 1", lambda v: v >= 1),
    ("rate", "a positive learning rate", lambda v: v > 0),
    ("warmup", "a number of updates, 0 for none", lambda v: v >= 0),
    ("clip", "a positive norm", lambda v: v > 0),
    ("average", "a decay in [0, 1)", lambda v: 0 <= v < 1),
    ("floor", "a share in [0, 1]", lambda v: 0 <= v <= 1),
    ("seed", "a whole number in [0, 2**63)", lambda v: 0 <= v < 2**63),
)


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training run.

    updates: number of optimiser updates; rate: peak learning rate; warmup: updates of its linear rise; clip: largest
    norm of the gradient; average: decay of the averaged weights (0: no averaging), lower in the first updates;
    floor: the last learning rate over the peak; seed: of times and noise.
    """

    updates: int = 1000
    rate: float = 2e-3
    warmup: int = 100
    clip: float = 1.0
    average: float = 0.999
    floor: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("updates", "warmup", "seed"):
            whole(name, getattr(self, name))
        for name, needed, right in _NEEDED:
            if not right(number(name, getattr(self, name))):
                raise TrainingError(f"{name}={getattr(self, name)}: give {needed}")

    def rate_at(self, update: int) -> float:
        """The learning rate of an update, counted from 0."""
        if update < self.warmup:
            return self.rate * (update + 1) / self.warmup
        fraction = (update - self.warmup) / max(1, self.updates - self.warmup)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * fraction)))


@dataclass(frozen=True)
class TrainingLog:
    """The mean loss of every update, and the seconds of wall clock."""

    losses: tuple[float, ...]
    seconds: float

    def __repr__(self) -> str:
        return f"TrainingLog({len(self.losses)} updates, last loss {self.losses[-1]:.4g}, {self.seconds:.0f} s)"


def build(network: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network whose initial weights depend on the seed only; the global random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network()


def dequantised(levels: Tensor, n: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of x = 2 (k + u)/n - 1 with new u uniform in [0, 1) and a new order in each epoch.

    levels: integers k in [0, n), (N, ...). Yields float32 (batch, ...); an incomplete last batch is left out.
    """
    if len(levels) < batch:
        raise TrainingError(f"batch={batch} is more than the {len(levels)} samples: make it smaller")
    while True:
        order = torch.randperm(len(levels), generator=generator)
        for rows in order[: len(order) // batch * batch].split(batch):
            k = levels[rows].float()
            yield 2 * (k + torch.rand(k.shape, generator=generator)) / n - 1


def train(
    model: ScoreModel,
    batches: Iterator[Tensor],
    settings: TrainingSettings,
    objective: Objective | None = None,
    report: Callable[[int, float], None] | None = None,
) -> TrainingLog:
    """Fits model.net in place and leaves the averaged weights in it, in eval mode.

    batches: clean data (B, ...); objective: (model, x0, generator) -> a loss a sample (B,), by default
    `sdediff.loss`; report: called with the number of the update and its mean loss. Raises TrainingError where it
    diverges.
    """
    net = check_model(model).net
    if not isinstance(net, nn.Module):
        raise TrainingError(f"the model's net is a {type(net).__name__}: training needs an nn.Module")
    if not isinstance(batches, Iterator):
        raise InputTypeError(f"batches={shown(batches)}: give an iterator of tensors (B, ...), such as iter(batches)")
    generator = torch.Generator().manual_seed(settings.seed)
    net.train()
    averaged = copy.deepcopy(net).requires_grad_(False)
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.rate, betas=(0.9, 0.99), fused=True)
    losses: list[float] = []
    start = time.perf_counter()
    for update in range(settings.updates):
        x0 = next(batches, None)
        if x0 is None:
            raise TrainingError(f"batches gave {update} batches, needed are {settings.updates}: give more, or updates=")
        sample_losses = loss(model, x0, generator=generator) if objective is None else objective(model, x0, generator)
        value = _update(net, optimiser, sample_losses.mean(), settings, update)
        _average(averaged, net, min(settings.average, (1 + update) / (10 + update)) if settings.average else 0.0)
        losses.append(value)
        if report is not None:
            report(update, value)
    net.load_state_dict(averaged.state_dict())
    net.eval()
    return TrainingLog(tuple(losses), time.perf_counter() - start)


def _update(
    net: nn.Module, optimiser: torch.optim.Optimizer, value: Tensor, settings: TrainingSettings, update: int
) -> float:
    if not bool(torch.isfinite(value)):
        raise TrainingError(f"the loss is {value.item()} at update {update}: lower rate={settings.rate}")
    for group in optimiser.param_groups:
        group["lr"] = settings.rate_at(update)
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(net.parameters(), settings.clip)
    optimiser.step()
    return value.item()


@torch.no_grad()
def _average(averaged: nn.Module, net: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(net.parameters()), 1 - decay)
    for old, new in zip(averaged.buffers(), net.buffers(), strict=True):
        old.copy_(new)
