"""What a run will do: its solver, its times, its noise, and where its states live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sdediff._utils.suggestions import late, nearest
from sdediff.grids.grids import GridLike, grid
from sdediff.model.prediction import ModelError
from sdediff.model.score_model import ScoreModel
from sdediff.noise.brownian import Brownian
from sdediff.noise.counter import Counter, Noise, Stream
from sdediff.sde.base import linear
from sdediff.solvers import Solver, SolverError, solver

NOISES: dict[str, type[Noise]] = {"counter": Counter, "brownian": Brownian, "stream": Stream}


class Plan(NamedTuple):
    """What a run will do: its solver, its times, and whether a last call jumps to data."""

    solver: Solver
    times: Tensor
    denoise: bool


def plan(
    model: ScoreModel,
    solver_: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    calls: int | None = None,
    grid_: GridLike | None = None,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
    shape: Sequence[int] | None = None,
    **where: Any,
) -> Plan:
    """Resolve names and counts: `steps` moves, or as many as fit into `calls` network calls, the last included.

    solver_="auto" measures on the model which solver and grid to take for states of that shape (B, ...).
    """
    if solver_ == "auto":
        if grid_ is not None or shape is None:
            raise SolverError("solver='auto' chooses the grid too: leave grid out, and give the states' shape")
        choice = late("sdediff.analysis:auto")
        solver_, grid_ = choice(model, shape, calls, steps, start=start, stop=stop, denoise=denoise, **where)
        steps = calls = None
    used, sde = solver(solver_), model.sde
    if used.needs_alpha and not sde.linear:
        raise SolverError(
            f"{used!r} needs alpha and sigma, which {type(sde).__name__} does not give: "
            "use euler_maruyama, euler, heun or a black-box solver"
        )
    denoise = denoise and sde.linear
    fixed = grid_ is not None and not isinstance(grid_, str) and not callable(grid_)
    if fixed and (steps is not None or calls is not None):
        raise ValueError("the grid's times were given: leave steps and calls out")
    if calls is not None:
        used, steps = _fitted(used, calls, denoise, steps)
    if start is None and sde.t_max < sde.T and not _starts_at_zero_alpha(used, model):
        start = sde.t_max
    if grid_ is None:
        grid_ = (used.grid if sde.linear else "") or sde.grid
    if steps is None and not fixed and grid_ != "knots":
        steps = used.steps
    return Plan(used, grid(grid_, sde, steps, start, stop), denoise)


def _starts_at_zero_alpha(used: Solver, model: ScoreModel) -> bool:
    """Whether a run may begin at T where alpha(T) = 0; what follows the flow in t needs its slope there."""
    able = used.at_zero_alpha and model.at_zero_alpha
    if able and not used.needs_alpha:
        return bool(torch.isfinite(linear(model.sde).schedule([model.sde.T]).alpha_dot).all())
    return able


def _fitted(used: Solver, calls: int, denoise: bool, steps: int | None) -> tuple[Solver, int]:
    if steps is not None:
        raise ValueError(f"given steps={steps} and calls={calls}: write one of them")
    least = used.spent(1)
    if least is None:
        raise SolverError(f"{used!r} chooses its calls at run time: set rtol and atol in place of calls={calls}")
    found = used.fit(calls - denoise)
    if found is None:
        raise ValueError(f"calls={calls} is too few for {used!r}: it needs at least {least + denoise}")
    return found


def noise_for(kind: str | Noise, model: ScoreModel, seed: int, index: int | Sequence[int]) -> Noise:
    """A noise by name ("counter", "brownian", "stream") for these samples; objects pass through."""
    if isinstance(kind, Noise):
        return kind
    if kind not in NOISES:
        raise ValueError(nearest(kind, NOISES, "noise"))
    return Brownian(seed, index, span=model.sde.T) if kind == "brownian" else NOISES[kind](seed, index)


def placement(
    model: ScoreModel, dtype: torch.dtype | None, device: Any, like: Tensor | None = None
) -> tuple[torch.dtype, torch.device]:
    """Dtype and device of the states: as asked, else the network's, else those of `like`, else torch's defaults."""
    known = None
    if isinstance(model.net, nn.Module):
        known = next((p for p in (*model.net.parameters(), *model.net.buffers()) if p.is_floating_point()), None)
    known = like if known is None else known
    dtype = dtype or (known.dtype if known is not None else torch.get_default_dtype())
    return dtype, torch.device(device or (known.device if known is not None else "cpu"))


def check_eval(model: ScoreModel) -> None:
    """Refuse a network that is still training: its dropout or batch statistics would change the result."""
    net = model.net
    if isinstance(net, nn.Module) and net.training:
        for name, part in net.named_modules():
            if isinstance(part, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm):
                raise ModelError(f"the network is in train mode and {name or 'it'} is active there: write net.eval()")
