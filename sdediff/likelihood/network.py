"""The network under a likelihood: evaluated at some rows of a micro-batch, counted, and checked for finite outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.grids.levels import Level
from sdediff.grids.levels import level as level_at
from sdediff.likelihood.probe_variance import probe_spread
from sdediff.likelihood.randomness import generator_state
from sdediff.likelihood.student import Spread
from sdediff.likelihood.task import Conditions, Task
from sdediff.likelihood.trace import Moments, check_gradient, forward_moments, moments, probe_vectors
from sdediff.likelihood.whitened import per_row
from sdediff.model.bound import BoundModel
from sdediff.model.network import beyond_rounding, look
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import Net

# The probe that a sample has at all of its nodes, beside fresh ones.
_COMMON = "rademacher"


class TracedOutput(NamedTuple):
    """The output F at states x (b, ...) of a level, its pairs, and moments of J = dF/dx.

    trace, square (P, b): estimates of tr J and |J|_F^2, one a probe. spread (b,): of the mean of the first. common,
    common_square (b,): those of the probe that a sample has at all of its nodes; where the trace is exact, the same.
    """

    x: Tensor
    raw: Tensor
    trace: Tensor
    square: Tensor
    spread: Spread
    common: Tensor
    common_square: Tensor
    level: Level
    pair: Callable[[str], tuple[Any, Any]]


class Network:
    """Evaluates a task's network at some rows of one micro-batch x (b, ...).

    calls (b,): network evaluations of each sample; failed (b,): the last time at which its output was not finite, or
    NaN. Where the task pads, every evaluation has the states of a whole micro-batch: rows that are not asked for keep
    the states of their last evaluation.
    """

    def __init__(self, task: Task, x: Tensor, index: np.ndarray, cond: Conditions) -> None:
        self.task, self.index, self.device = task, index, x.device
        self.calls, self.failed = np.zeros(len(x), dtype=np.int64), np.full(len(x), math.nan)
        self._dtype, self._cond = x.dtype, cond
        self._rows = torch.arange(len(x))
        self._common: Tensor | None = None
        self._differentiable = False
        # Per number of sides (2 for central differences): the last states and clocks of the padded batch.
        self._padding: dict[int, tuple[Tensor, Tensor]] = {}
        self._slots = torch.arange(task.padded_size or len(x)).clamp(max=len(x) - 1)
        self._dtypes = look(task.model.net).dtypes
        self._model = task.model.map_net(self._wrapped)

    def at(self, x: Tensor, level: Level, rows: Tensor) -> Prediction:
        """The prediction at states x (b, ...) of `rows`, without gradients."""
        self._rows = rows
        prediction = self._predicted(x.to(self._dtype), level)
        self._check_finite(prediction.raw, level, rows)
        return prediction

    def traced(
        self, x: Tensor, level: Level, rows: Tensor, node: int, probes: int, common: bool = False
    ) -> TracedOutput:
        """The output and the moments of its Jacobian at x (b, ...), with so many fresh probes of a node.

        common: with the common probe beside them, or alone where probes is 0.
        """
        task, self._rows, x = self.task, rows, x.to(self._dtype)
        graph = bool(task.gradient)
        vectors = self._probes(x, rows, node, probes, common)
        if task.autograd:
            with torch.enable_grad():
                x = x if graph and x.requires_grad else x.detach().requires_grad_(True)
                prediction = self._predicted(x, level)
                if not self._differentiable:
                    check_gradient(prediction.raw, x, lambda other: self._predicted(other, level).raw)
                    self._differentiable = True
                found = moments(prediction.raw, x, vectors, graph, task.padded_size or len(x))
            raw, pair = prediction.raw, prediction.pair
        else:
            raw, found, pair = self._central_differences(x, level, vectors)
        self._check_finite(raw, level, rows)
        trace, square = found.trace, found.square
        if not graph:
            x, raw, trace, square = x.detach(), raw.detach(), trace.detach(), square.detach()
        if vectors is None or found.pulled is None:
            spread = probe_spread(task.trace, None, None, trace[0].detach())
            return TracedOutput(x, raw, trace, square, spread, trace[0], square[0], level, pair)
        fresh, pulled = vectors[:probes], found.pulled.detach()
        values = trace[:probes]
        if task.trace == "gaussian" and common:
            # |v|^2 - D, of mean 0, times a trace that does not depend on v: it takes the isotropic part's noise away.
            mean = trace[-1] / x[0].numel()
            values = values - mean * (fresh.double().square().flatten(2).sum(2) - x[0].numel())
            pulled = pulled - per_row(mean, x).to(pulled) * vectors
        spread = probe_spread(task.trace, vectors, pulled, trace[-1].detach(), probes)
        return TracedOutput(x, raw, values, square[:probes], spread, trace[-1], square[-1], level, pair)

    @torch.no_grad()
    def check_rows(self, x: Tensor, first: Level, last: Level) -> None:
        """Refuse a network whose output for a sample changes with the others in its batch.

        Two of x (b, ...) are evaluated side by side, at two times as on paths of their own, and each beside itself. The
        evaluations are not counted. Draws from torch's generator are left to the status of the result.
        """
        if len(x) < 2:
            return
        counted, outputs, drawn = self.calls.copy(), [], generator_state(x.device)
        self._rows, times = torch.tensor([0, 1]), torch.tensor([first.time, last.time], dtype=torch.float64)
        for pick in ([0, 1], [0, 0], [1, 1]):
            outputs.append(self._predicted(x[pick].to(self._dtype), level_at(self._model.sde, times[pick])).raw)
        self.calls, self._padding = counted, {}
        one, other = outputs[0], torch.stack([outputs[1][0], outputs[2][1]])
        if beyond_rounding(one, other) and torch.equal(drawn, generator_state(x.device)):
            raise InputError(
                "the network's output for a sample changes with the others in its batch: it reads the time of one row "
                "for all (t[0]), mixes samples or draws noise. Let it use t (B,), a time a sample; or write "
                'method="ode", which has one time for all'
            )

    def along_score(self, output: TracedOutput, rows: Tensor) -> tuple[Tensor, Tensor]:
        """u^T J u and |J^T u|^2 (b,) for J = dF/dx and the score's direction u, |u|^2 = D: one more call."""
        p, q = output.pair("score")
        score = per_row(p, output.x) * output.x.double() + per_row(q, output.x) * output.raw.double()
        norm = score.flatten(1).norm(dim=1)
        scale = torch.where(norm > 0, math.sqrt(score[0].numel()) / norm, 0.0)
        direction = score * per_row(scale, score)
        self._rows = rows
        vectors = direction.to(self._dtype)[None]
        if self.task.autograd:
            with torch.enable_grad():
                x = output.x.requires_grad_(True)
                raw = self._predicted(x, output.level).raw
                found = moments(raw, x, vectors, bool(self.task.gradient), self.task.padded_size or len(x))
        else:
            _, found, _ = self._central_differences(output.x, output.level, vectors)
        trace, square = found.trace[0], found.square[0]
        return (trace, square) if self.task.gradient else (trace.detach(), square.detach())

    def _predicted(self, x: Tensor, level: Level) -> Prediction:
        """One evaluation; what the network's modules are was looked at once."""
        return BoundModel(self._model, dtypes=self._dtypes)(x, level)

    def _probes(self, x: Tensor, rows: Tensor, node: int, probes: int, common: bool) -> Tensor | None:
        """The fresh probes of a node and the common one (P, b, ...); None for the exact trace."""
        task = self.task
        if task.trace == "exact":
            return None
        index, parts = self.index[rows.numpy()], []
        if probes:
            parts = [probe_vectors(task.trace, x, probes, task.seed, index, node)]
        if common:
            if self._common is None:
                like = x.new_zeros(len(self.index), *x.shape[1:])
                self._common = probe_vectors(_COMMON, like, 1, task.seed, self.index)
            of_all: Any = self._common
            parts.append(of_all[:, rows])
        return torch.cat([part for part in parts if part is not None])

    @torch.no_grad()
    def _central_differences(self, x: Tensor, level: Level, vectors: Tensor | None) -> tuple[Tensor, Moments, Any]:
        """F as the mean of the two sides, and its moments by central differences."""
        size = len(x)
        last: list[Prediction] = []
        both = level if not isinstance(level.time, Tensor) else level_at(self._model.sde, level.time.repeat(2))

        def field(two: Tensor) -> Tensor:
            last[:] = [self._predicted(two, both)]
            return last[0].raw

        found = forward_moments(field, x, vectors, self._difference_step(level, x))
        prediction = last[0]

        def pair(name: str) -> tuple[Any, Any]:
            p, q = (v[:size] if isinstance(v, Tensor) and v.ndim else v for v in prediction.pair(name))
            return p, q

        return (prediction.raw[:size] + prediction.raw[size:]) / 2, found, pair

    def _difference_step(self, level: Level, x: Tensor) -> Tensor:
        """h (b, 1, ...): the machine epsilon^(1/3) times sigma, but no less than the rounding of the states allows."""
        relative = torch.finfo(x.dtype).eps ** (1 / 3)
        sigma = torch.as_tensor(level.sigma, dtype=torch.float64).expand(len(x)).to(x.device)
        magnitude = x.detach().double().flatten(1).abs().amax(1)
        step = relative * torch.maximum(sigma, relative * magnitude)
        return step.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))

    def _check_finite(self, raw: Tensor, level: Level, rows: Tensor) -> None:
        """Record the time for the rows whose output is not finite."""
        finite = torch.isfinite(raw).flatten(1).all(1).cpu()
        if not bool(finite.all()):
            times = torch.as_tensor(level.time, dtype=torch.float64).expand(len(rows))
            self.failed[rows[~finite].numpy()] = times[~finite].numpy()

    def _wrapped(self, net: Net) -> Net:
        """The network with its calls counted, the conditions of the current rows, and the batch padded."""

        def call(x: Tensor, clock: Tensor, **_: Any) -> Any:  # conditions bound to the model are among those by rows
            sides = len(x) // len(self._rows)
            self.calls[self._rows.numpy()] += sides
            if not self.task.padded_size:
                return net(x, clock, **self._cond(self._rows.repeat(sides)))
            size = len(self._slots)
            slots = torch.cat([self._rows + side * size for side in range(sides)]).to(x.device)
            states, clocks = self._padded(x, clock, slots, sides)
            return _select(net(states, clocks, **self._cond(self._slots.repeat(sides))), slots)

        return call

    def _padded(self, x: Tensor, clock: Tensor, slots: Tensor, sides: int) -> tuple[Tensor, Tensor]:
        """The states and clocks of a whole micro-batch, with x and clock in their slots."""
        if sides not in self._padding:
            fill = torch.zeros(sides * len(self._slots), dtype=torch.int64, device=x.device)
            self._padding[sides] = x.detach()[fill], clock[fill]
        old_states, old_clocks = self._padding[sides]
        states, clocks = old_states.index_copy(0, slots, x), old_clocks.index_copy(0, slots, clock)
        finite = torch.isfinite(states.detach()).flatten(1).all(1)
        self._padding[sides] = torch.where(per_row(finite, states), states.detach(), old_states), clocks
        return states, clocks


def _select(output: Any, rows: Tensor) -> Any:
    """Some rows of a network's output: a tensor, a tuple, or an object with a `sample`."""
    if isinstance(output, Tensor):
        return output[rows]
    if isinstance(output, tuple):
        return tuple(_select(part, rows) if isinstance(part, Tensor) else part for part in output)
    return _select(output.sample, rows)
