"""The network under a likelihood: called for some samples of a micro-batch, counted, and watched."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff.grids.levels import Level, level
from sdediff.likelihood.settings import Settings
from sdediff.likelihood.trace import divergence, forward_divergence, probe_vectors
from sdediff.likelihood.whitened import beside
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import Net


class Traced(NamedTuple):
    """At states x (b, ...) of a level: the output F, the pairs of its properties, and estimates (P, b) of tr(dF/dx)."""

    x: Tensor
    raw: Tensor
    trace: Tensor
    level: Level
    pair: Callable[[str], tuple[Any, Any]]


class Network:
    """Calls of a job's network for samples of one micro-batch x (b, ...), each known by its row.

    calls (b,): forwards a sample; failed (b,): the last time at which its output was not finite, or NaN. Where the
    job freezes, every forward has the states of a whole micro-batch: those not asked for are as they last were.
    """

    def __init__(self, job: Settings, x: Tensor, index: np.ndarray, cond: dict[str, Tensor]) -> None:
        self.job, self.index, self.device = job, index, x.device
        self.calls, self.failed = np.zeros(len(x), dtype=np.int64), np.full(len(x), math.nan)
        self._dtype, self._cond = x.dtype, cond
        self._rows = torch.arange(len(x))
        self._held: dict[int, tuple[Tensor, Tensor]] = {}
        self._slots = torch.arange(job.frozen or len(x)).clamp(max=len(x) - 1)
        self._model = job.model.map_net(self._wrapped)

    def at(self, x: Tensor, here: Level, rows: Tensor) -> Prediction:
        """The prediction at states x (b, ...) of `rows`, without gradients."""
        self._rows = rows
        prediction = self._model(x.to(self._dtype), here)
        self._watch(prediction.raw, here, rows)
        return prediction

    def traced(self, x: Tensor, here: Level, rows: Tensor, node: int, probes: int | None = None) -> Traced:
        """The output and the trace of its Jacobian at x (b, ...), with that node's probes, as many as the job has."""
        job, self._rows, inside = self.job, rows, x.to(self._dtype)
        vectors = probe_vectors(job.trace, inside, probes or job.probes, job.seed, self.index[rows.numpy()], node)
        if job.autograd:
            with torch.enable_grad():
                inside = inside.detach().requires_grad_(True)
                prediction = self._model(inside, here)
                found = divergence(prediction.raw, inside, vectors, batch=job.frozen or len(x)).detach()
            raw, pair = prediction.raw.detach(), prediction.pair
        else:
            raw, found, pair = self._forward(inside, here, vectors)
        self._watch(raw, here, rows)
        return Traced(inside.detach(), raw, found, here, pair)

    @torch.no_grad()
    def _forward(self, x: Tensor, here: Level, vectors: Tensor | None) -> tuple[Tensor, Tensor, Any]:
        """F as the mean of the two sides, and the trace by central differences over a step that F is smooth on."""
        size = len(x)
        seen: list[Prediction] = []
        both = here if not isinstance(here.time, Tensor) else level(self._model.sde, here.time.repeat(2))

        def field(two: Tensor) -> Tensor:
            seen[:] = [self._model(two, both)]
            return seen[0].raw

        found = forward_divergence(field, x, vectors, self._step(here, x))
        last = seen[0]

        def pair(name: str) -> tuple[Any, Any]:
            p, q = (v[:size] if isinstance(v, Tensor) and v.ndim else v for v in last.pair(name))
            return p, q

        return (last.raw[:size] + last.raw[size:]) / 2, found, pair

    def _step(self, here: Level, x: Tensor) -> Tensor:
        """h (b, 1, ...): eps^(1/3) of the noise, kept above what the states' own rounding allows."""
        fine = torch.finfo(x.dtype).eps ** (1 / 3)
        sigma = torch.as_tensor(here.sigma, dtype=torch.float64).expand(len(x)).to(x.device)
        size = x.detach().double().flatten(1).abs().amax(1)
        return (fine * torch.maximum(sigma, fine * size)).to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))

    def _watch(self, raw: Tensor, here: Level, rows: Tensor) -> None:
        good = torch.isfinite(raw).flatten(1).all(1).cpu()
        if not bool(good.all()):
            times = torch.as_tensor(here.time, dtype=torch.float64).expand(len(rows))
            self.failed[rows[~good].numpy()] = times[~good].numpy()

    def _wrapped(self, net: Net) -> Net:
        def called(x: Tensor, clock: Tensor, **shared: Any) -> Any:
            sides = len(x) // len(self._rows)
            self.calls[self._rows.numpy()] += sides
            if not self.job.frozen:
                own = {k: v[self._rows.to(v.device)].repeat(sides, *[1] * (v.ndim - 1)) for k, v in self._cond.items()}
                return net(x, clock, **shared, **own)
            size = len(self._slots)
            slots = torch.cat([self._rows + side * size for side in range(sides)]).to(x.device)
            whole, clocks = self._whole(x, clock, slots, sides)
            own = {k: v[self._slots.to(v.device)].repeat(sides, *[1] * (v.ndim - 1)) for k, v in self._cond.items()}
            return _rows(net(whole, clocks, **shared, **own), slots)

        return called

    def _whole(self, x: Tensor, clock: Tensor, slots: Tensor, sides: int) -> tuple[Tensor, Tensor]:
        """A micro-batch of states and clocks with these ones in their slots."""
        if sides not in self._held:
            fill = torch.zeros(sides * len(self._slots), dtype=torch.int64, device=x.device)
            self._held[sides] = x.detach()[fill], clock[fill]
        states, clocks = self._held[sides]
        whole, clocks = states.index_copy(0, slots, x), clocks.index_copy(0, slots, clock)
        good = torch.isfinite(whole.detach()).flatten(1).all(1)
        self._held[sides] = torch.where(beside(good, whole), whole.detach(), states), clocks
        return whole, clocks


def _rows(output: Any, slots: Tensor) -> Any:
    """Some samples of what a network returned: a tensor, a tuple, or an object with a `sample`."""
    if isinstance(output, Tensor):
        return output[slots]
    if isinstance(output, tuple):
        return tuple(_rows(v, slots) if isinstance(v, Tensor) else v for v in output)
    return _rows(output.sample, slots)
