"""Arguments of the sampling functions, checked where they enter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import (
    flag,
    function,
    known,
    number,
    shown,
    state_device,
    state_dtype,
    state_shape,
    states,
    whole,
)  # fmt: skip
from sdediff._utils.errors import InputError, InputTypeError
from sdediff.grids.levels import Level
from sdediff.model.casts import WIDER
from sdediff.model.conditions import as_tensors, check_names
from sdediff.model.score_model import ScoreModel, check_card, check_model
from sdediff.noise.counter import Noise
from sdediff.sampling.compatibility import refuse_resuming
from sdediff.sampling.run import State
from sdediff.solvers import Solver
from sdediff.solvers.base import check_fields


def set_up(
    model: Any, solver: Any, given: dict[str, Any], noise: Any, dtype: Any, device: Any, compile: Any
) -> dict[str, Any]:
    """The counts, ends and flag of a sampler, NumPy's numbers as Python's; everything else of it is checked."""
    check_model(model)
    if isinstance(solver, Solver):
        check_fields(solver)
    steps, calls, start, stop = given["steps"], given["calls"], given["start"], given["stop"]
    steps = steps if steps is None or type(steps) is int else whole("steps", steps)
    calls = calls if calls is None or type(calls) is int else whole("calls", calls)
    start = start if start is None or type(start) is float else number("start", start)
    stop = stop if stop is None or type(stop) is float else number("stop", stop)
    denoise = given["denoise"]
    flag("denoise", denoise)
    flag("compile", compile)
    if dtype is not None:
        state_dtype(dtype)
    if device is not None:
        state_device(device)
    if not isinstance(noise, str | Noise):
        raise InputTypeError(f'noise={shown(noise)}: write "counter", "brownian" or "stream", or give a Noise object')
    return {"steps": steps, "calls": calls, "start": start, "stop": stop, "denoise": denoise}


def check_run(model: ScoreModel, shape: Any, x: Any, cond: Any) -> None:
    """Refuse a shape, states or conditions that no run can have."""
    if x is not None:
        if shape is not None and state_shape(shape) != tuple(states("x", x).shape):
            raise InputError(f"given x of shape {tuple(x.shape)} and shape={tuple(shape)}: leave one out")
        shape = states("x", x).shape
    elif shape is None:
        raise InputError("give the states' shape, e.g. (64, 1, 8, 8), or x= to begin from")
    else:
        shape = state_shape(shape)
    if cond is not None:
        check_names(model.net, model.cond.keys() | as_tensors(cond).keys())
    check_card(model, shape)


def check_call(callback: Any, full: Any, grad: Any, progress: Any, x: Any) -> None:
    """Refuse what a call of a sampler would drop."""
    if callback is not None:
        function("callback", callback, 1)
    flag("full", full)
    if not known(grad, ("checkpoint",)):
        flag("grad", grad)
    if progress is not None and type(progress) is not bool:
        raise InputTypeError(f"progress={shown(progress)}: write True, False or None")
    if grad and torch.is_inference_mode_enabled():
        raise InputError("grad=True inside of torch.inference_mode(), which keeps no graph: leave one of them out")
    if isinstance(x, Tensor) and x.requires_grad and not grad and torch.is_grad_enabled():
        raise InputError("x requires a gradient, which the run would drop: write grad=True, or x=x.detach()")


def check_graph(x: Tensor) -> None:
    """Refuse a run for gradients on which nothing that requires them had an effect."""
    if not x.requires_grad:
        raise InputError(
            "grad=True, but nothing that the samples depend on requires a gradient: write x.requires_grad_() or "
            "net.requires_grad_(), or leave grad out"
        )


def check_resume(
    resume: Any, given: dict[str, Any], dtype: Any = None, device: Any = None, model: ScoreModel | None = None
) -> State:
    """A state to go on from; what it has fixed already is refused, and a model that carries more than it holds."""
    if model is not None:
        refuse_resuming(model)
    if not isinstance(resume, State) or not isinstance(resume.t, Level) or not isinstance(resume.x, Tensor):
        raise InputTypeError(f"resume={shown(resume)}: give a State that sd.iterate yielded")
    fixed = [name for name, value in given.items() if value is not None]
    if fixed:
        raise InputError(f"given resume= and {', '.join(fixed)}: the state has the run's own, leave {fixed[0]} out")
    kind, place = resume.x.dtype, resume.x.device
    if dtype is not None and kind is not WIDER.get(dtype, dtype):
        raise InputError(
            f"the state is {kind}, the sampler was made with dtype={dtype}: resume it where that is {kind}"
        )
    if device is not None and place.type != torch.device(device).type:
        raise InputError(f"the state is on {place}, the sampler was made with device={str(device)!r}: move one of them")
    return resume


def times_of(resume: Any, **given: Any) -> Tensor:
    """The times of a state to go on from, beside which nothing that fixes a run may be given."""
    return check_resume(resume, given).times
