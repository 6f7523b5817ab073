"""One training loop: Adam with warm-up and cosine decay, gradient clipping, averaged weights.

The same seed, options, machine and number of threads give the same weights to the bit.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sdediff._utils.errors import Error
from sdediff.model.score_model import ScoreModel
from sdediff.training.objectives import loss

Objective = Callable[[ScoreModel, Tensor, torch.Generator], Tensor]


class TrainingError(Error, ValueError):
    """Training cannot go on; the message says at which step and what to change."""


@dataclass(frozen=True)
class Options:
    """Numbers of a run. steps: updates; rate: peak learning rate; clip: largest norm of the gradient;
    average: decay of the averaged weights (0: off), lower in the first steps; floor: last rate over rate."""

    steps: int = 1000
    rate: float = 2e-3
    warmup: int = 100
    clip: float = 1.0
    average: float = 0.999
    floor: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise TrainingError(f"steps={self.steps}: give at least 1")
        if not 0 <= self.average < 1:
            raise TrainingError(f"average={self.average}: give a decay in [0, 1)")

    def rate_at(self, step: int) -> float:
        """The learning rate of an update, counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass
class Record:
    """What a run did: the objective a step, seconds of wall clock, and seconds that its threads computed."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def build(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network whose first weights depend on the seed alone; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def dequantised(levels: Tensor, n: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of x = 2 (k + u)/n - 1, u uniform in [0, 1) drawn afresh, in a new order each epoch.

    levels: integers k in [0, n), (N, ...). Yields float32 (batch, ...); the tail of an epoch is left out.
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
    options: Options,
    objective: Objective | None = None,
    report: Callable[[int, float], None] | None = None,
) -> Record:
    """Fits model.net in place and leaves the averaged weights in it, in eval mode.

    batches: clean data (B, ...); objective: (model, x0, generator) -> a loss a sample (B,), by default
    `losses.loss`; report: called with the step and its mean loss. Raises TrainingError where it diverges.
    """
    net = model.net
    if not isinstance(net, nn.Module):
        raise TrainingError(f"the model's net is a {type(net).__name__}: training needs an nn.Module")
    generator = torch.Generator().manual_seed(options.seed)
    net.train()
    averaged = copy.deepcopy(net).requires_grad_(False)
    optimiser = torch.optim.Adam(net.parameters(), lr=options.rate, betas=(0.9, 0.99), fused=True)
    record, start, computed = Record(), time.perf_counter(), time.process_time()
    for step in range(options.steps):
        x0 = next(batches)
        each = loss(model, x0, generator=generator) if objective is None else objective(model, x0, generator)
        value = _update(net, optimiser, each.mean(), options, step)
        _follow(averaged, net, min(options.average, (1 + step) / (10 + step)) if options.average else 0.0)
        record.losses.append(value)
        if report is not None:
            report(step, value)
    net.load_state_dict(averaged.state_dict())
    net.eval()
    record.seconds, record.cpu_seconds = time.perf_counter() - start, time.process_time() - computed
    return record


def _update(net: nn.Module, optimiser: torch.optim.Optimizer, value: Tensor, options: Options, step: int) -> float:
    if not bool(torch.isfinite(value)):
        raise TrainingError(f"the loss is {value.item()} at step {step}: lower rate={options.rate}")
    for group in optimiser.param_groups:
        group["lr"] = options.rate_at(step)
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(net.parameters(), options.clip)
    optimiser.step()
    return value.item()


@torch.no_grad()
def _follow(averaged: nn.Module, net: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(net.parameters()), 1 - decay)
    for kept, new in zip(averaged.buffers(), net.buffers(), strict=True):
        kept.copy_(new)
