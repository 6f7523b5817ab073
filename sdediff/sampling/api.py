"""From noise to data: `sample` and `iterate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from sdediff.grids.grids import GridLike
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Noise
from sdediff.sampling.arguments import times_of
from sdediff.sampling.run import State
from sdediff.sampling.sampler import Sampler, SampleRecord
from sdediff.solvers import Solver


def iterate(
    model: ScoreModel | str,
    shape: Sequence[int] | None = None,
    *,
    solver: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    calls: int | None = None,
    grid: GridLike | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    x: Tensor | None = None,
    start: float | None = None,
    stop: float | None = None,
    cond: dict[str, Any] | None = None,
    denoise: bool = True,
    noise: str | Noise = "counter",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    resume: State | None = None,
) -> Iterator[State]:
    """Yield a State (t, x, prediction, history, times) at every level; arguments as in `sample`.

    resume: a state that an earlier run with the same solver and seed yielded; the run goes on from it to
    the same result, to the bit. Gradients are the caller's choice (`torch.no_grad()`).
    """
    if resume is not None:
        grid = times_of(
            resume, shape=shape, steps=steps, calls=calls, grid=grid, x=x, start=start, stop=stop, dtype=dtype,
            device=device,
        )  # fmt: skip
    sampler = Sampler(
        model, solver=solver, steps=steps, calls=calls, grid=grid, start=start, stop=stop, denoise=denoise, noise=noise,
        dtype=dtype, device=device,
    )  # fmt: skip
    return sampler.states(sampler.run(shape, x=x, seed=seed, index=index, cond=cond, resume=resume))


@overload
def sample(
    model: ScoreModel | str,
    shape: Sequence[int] | None = None,
    *,
    solver: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    calls: int | None = None,
    grid: GridLike | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    x: Tensor | None = None,
    start: float | None = None,
    stop: float | None = None,
    cond: dict[str, Any] | None = None,
    denoise: bool = True,
    noise: str | Noise = "counter",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    resume: State | None = None,
    callback: Callable[[State], None] | None = None,
    full: Literal[False] = False,
    log_prob: None = None,
    grad: bool | Literal["checkpoint"] = False,
    compile: bool = False,
    progress: bool | None = None,
) -> Tensor: ...
@overload
def sample(
    model: ScoreModel | str,
    shape: Sequence[int] | None = None,
    *,
    solver: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    calls: int | None = None,
    grid: GridLike | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    x: Tensor | None = None,
    start: float | None = None,
    stop: float | None = None,
    cond: dict[str, Any] | None = None,
    denoise: bool = True,
    noise: str | Noise = "counter",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    resume: State | None = None,
    callback: Callable[[State], None] | None = None,
    full: Literal[True],
    log_prob: Literal["steps"] | None = None,
    grad: bool | Literal["checkpoint"] = False,
    compile: bool = False,
    progress: bool | None = None,
) -> SampleRecord: ...
@overload
def sample(
    model: ScoreModel | str,
    shape: Sequence[int] | None = None,
    *,
    solver: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    calls: int | None = None,
    grid: GridLike | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    x: Tensor | None = None,
    start: float | None = None,
    stop: float | None = None,
    cond: dict[str, Any] | None = None,
    denoise: bool = True,
    noise: str | Noise = "counter",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    callback: Callable[[State], None] | None = None,
    full: bool = False,
    log_prob: Literal["steps"],
    grad: bool | Literal["checkpoint"] = False,
    compile: bool = False,
    progress: bool | None = None,
) -> SampleRecord: ...
def sample(
    model: ScoreModel | str,
    shape: Sequence[int] | None = None,
    *,
    solver: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    calls: int | None = None,
    grid: GridLike | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    x: Tensor | None = None,
    start: float | None = None,
    stop: float | None = None,
    cond: dict[str, Any] | None = None,
    denoise: bool = True,
    noise: str | Noise = "counter",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    resume: State | None = None,
    callback: Callable[[State], None] | None = None,
    full: bool = False,
    log_prob: Literal["steps"] | None = None,
    grad: bool | Literal["checkpoint"] = False,
    compile: bool = False,
    progress: bool | None = None,
) -> Tensor | SampleRecord:
    """Samples (B, ...) of a model by any solver, from the prior to data; a SampleRecord with full=True or log_prob=.

    solver: name or object, "auto" to measure on this model which to take. steps: of the solver; calls: network
    evaluations (NFE), the last included. grid: name, function or times. seed, index: sample i depends on (seed, i)
    alone, index is the first sample's number or one a sample. x: states at the start, by default drawn from the prior.
    start, stop: times. cond: for the network. denoise: the last jump to data. noise: "counter", "brownian", "stream" or
    an object. resume: a State to go on from. callback: called with every State. log_prob: "steps" for the log density
    of each step of a stochastic solver. grad: keep the graph; "checkpoint" computes steps again, in less memory.
    compile: compile the network and, on CUDA, replay the loop as one graph; a `Sampler` keeps both for later calls.
    progress: True, False, or by default on runs over two seconds at a terminal.
    """
    if resume is not None:
        grid = times_of(
            resume, shape=shape, steps=steps, calls=calls, grid=grid, x=x, start=start, stop=stop, dtype=dtype,
            device=device,
        )  # fmt: skip
    sampler = Sampler(
        model, solver=solver, steps=steps, calls=calls, grid=grid, start=start, stop=stop, denoise=denoise, noise=noise,
        dtype=dtype, device=device, compile=compile,
    )  # fmt: skip
    options: Any = {"callback": callback, "full": full, "log_prob": log_prob, "grad": grad, "progress": progress}
    return sampler(shape, x=x, seed=seed, index=index, cond=cond, resume=resume, **options)
