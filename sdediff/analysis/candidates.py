"""The candidates of a recommendation: solvers on fixed grids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.checks import shown
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff.analysis.model_paths import Paths
from sdediff.analysis.tuning import fixed_grids
from sdediff.grids.grids import GRIDS, grid
from sdediff.sampling.run import placement
from sdediff.solvers import Solver, SolverError, lower_order_final
from sdediff.solvers import solver as resolve_solver

CandidateLike = str | Solver | tuple[str | Solver, str]


class NamedSolver(NamedTuple):
    """A solver and how a user writes it: a name with options, or the object itself where it has no name."""

    solver: Solver
    name: str | None
    options: dict[str, Any]

    @property
    def python(self) -> str:
        """The solver as a Python expression."""
        if self.name is None:
            return repr(self.solver)
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        return f"sd.solver({self.name!r}{options})" if options else repr(self.name)

    @property
    def label(self) -> str:
        """The solver as text in a table."""
        options = " ".join(f"{key}={value}" for key, value in self.options.items())
        return repr(self.solver) if self.name is None else f"{self.name} {options}".strip()

    @property
    def command(self) -> str | None:
        """The solver as options of the command line; None for an object without a name."""
        if self.name is None:
            return None
        return " ".join([f"--solver {self.name}", *(f"--option {key}={value}" for key, value in self.options.items())])


class Candidate(NamedTuple):
    """A solver on a grid: the grid's name and its times (n + 1,)."""

    named: NamedSolver
    grid: str
    times: Tensor


def default_solvers(scale: float | str, pca: bool) -> Iterator[NamedSolver]:
    """The Adams family over bases and variables, 2 or 3 points, with and without the free corrector; related solvers.

    scale: of the whitened basis; pca: whether the model knows its data's principal directions.
    """
    for points in (2, 3):
        for corrector in (0, points + 1):
            rule = {"points": points, "corrector_points": corrector}
            for basis, variable in (("x0", "lam"), ("eps", "rho"), ("eps", "lam")):
                yield named_solver("adams", **rule, basis=basis, variable=variable)
            for variable in ("angle", "lam"):
                yield named_solver("angle", **rule, variable=variable, scale=scale)
                if pca:
                    yield named_solver("angle", **rule, variable=variable, scale="pca")
    for variable in ("rho", "lam"):
        yield named_solver("adams", points=4, basis="eps", variable=variable)
        yield named_solver(lower_order_final(resolve_solver("adams", points=3, basis="eps", variable=variable), last=2))
    yield named_solver("midpoint", variable="flow")
    yield named_solver("rk4", variable="flow")
    for name in ("ddim", "heun", "dpm_solver_3", "ipndm"):
        yield named_solver(name)


def named_solver(kind: str | Solver, **options: Any) -> NamedSolver:
    """A deterministic solver on a grid, by name or as an object; SolverError on any other."""
    solver = resolve_solver(kind, **options)
    if solver.stochastic or solver.adaptive or solver.corrector:
        raise SolverError(
            f"{solver!r} does not follow the flow on a grid, so has no error to be compared by: leave it out"
        )  # fmt: skip
    return NamedSolver(solver, kind if isinstance(kind, str) else None, options)


def candidates_for(paths: Paths, calls: int, wanted: Sequence[CandidateLike] | None, scale: float) -> list[Candidate]:
    """The candidates that the budget allows: the default solvers, or those wanted, on the fixed or the named grids."""
    known = paths.model.stats is not None
    usual = default_solvers("auto" if known else scale, known)
    return on_grids(paths, calls, wished(wanted, usual, named_solver), scale)


def wished(
    wanted: Sequence[CandidateLike] | None, usual: Iterable[NamedSolver], named: Callable[[str | Solver], NamedSolver]
) -> list[tuple[NamedSolver, str | None]]:
    """The solvers that are wanted, each with the name of its grid or None; by default the usual ones."""
    if wanted is None:
        return [(solver, None) for solver in usual]
    if not isinstance(wanted, Sequence) or isinstance(wanted, str | bytes):
        raise InputTypeError(f"candidates={shown(wanted)}: give a list of solvers, or of pairs (solver, grid)")
    pairs = [entry if isinstance(entry, tuple) else (entry, None) for entry in wanted]
    return [(named(kind), grid_name) for kind, grid_name in pairs]


def on_grids(
    paths: Paths, calls: int, solvers: Sequence[tuple[NamedSolver, str | None]], scale: float
) -> list[Candidate]:
    """Solvers on the fixed grids, or on the named one, each in as many steps as the calls allow."""
    candidates: list[Candidate] = []
    reason = "give candidates"
    for named, grid_name in solvers:
        try:
            fitted, steps = paths.fit(named.solver, calls)
        except ValueError as error:  # too few calls for this solver
            reason = str(error)
            continue
        # A solver changed to fit its budget has no name that would give it back.
        named = named if fitted == named.solver else NamedSolver(fitted, None, {})
        grids = candidate_grids(paths, steps, scale)
        if grid_name is not None and grid_name not in grids:
            grids = {grid_name: _grid_named(paths, grid_name, steps)}
        candidates += [Candidate(named, key, times) for key, times in grids.items() if grid_name in (None, key)]
    if not candidates:
        raise SolverError(f"no candidate can run: {reason}")
    return candidates


def candidate_grids(paths: Paths, steps: int, scale: float) -> dict[str, Tensor]:
    """The fixed grids between the ends of these paths, whitened by the scale.

    Where the end is free, also those of one step more whose last step is left to the denoising call, which jumps to
    the data: at few calls this costs less than a step to the least noise and a call there that removes little.
    """
    sde: Any = paths.model.sde
    start = paths.options["start"]
    whole = fixed_grids(sde, steps, start, paths.stop, scale)
    longer = fixed_grids(sde, steps + 1, start, paths.stop, scale) if paths.free_end else {}
    return {**whole, **{f"{name}, early end": printable(times[:-1], paths.stop) for name, times in longer.items()}}


def printable(times: Tensor, stop: float) -> Tensor:
    """Times (n + 1,) of six digits but for the ends of the process, so that what is printed is what is measured."""
    short = torch.tensor([float(f"{t:.6g}") for t in times.tolist()], dtype=times.dtype)
    short[0] = times[0]
    if times[-1].item() == stop:
        short[-1] = stop
    return short if bool((short.diff() < 0).all()) else times


def python_line(paths: Paths, named: NamedSolver, grid: str | tuple[float, ...], calls: int) -> str:
    """The call of `sample` that does what was measured."""
    options = paths.options
    places = f'grid="{grid}", calls={calls}' if isinstance(grid, str) else f"grid={list(grid)!r}"
    if isinstance(grid, str) and options["stop"] is not None:
        places += f", stop={options['stop']!r}"
    places += "" if options["denoise"] else ", denoise=False"
    places += ", cond=cond" if options["cond"] else ""
    if paths.x.dtype != placement(paths.model, None, None)[0]:
        places += f", dtype={paths.x.dtype}"
    return f"sd.sample(model, shape, solver={named.python}, {places})"


def command_line(paths: Paths, candidate: Candidate, calls: int) -> str | None:
    """The same as a command; None where the command line has no words for it."""
    options = paths.options
    if candidate.named.command is None or options["cond"] or not options["denoise"] or options["stop"] is not None:
        return None
    name, plain = paths.model.card.get("name", "MODEL"), paths.x.dtype == placement(paths.model, None, None)[0]
    kind = "" if plain else f" --dtype {str(paths.x.dtype).removeprefix('torch.')}"
    return f"sdediff sample {name} {candidate.named.command} --grid {candidate.grid} --calls {calls}{kind}"


def _grid_named(paths: Paths, name: str, steps: int) -> Tensor:
    if name not in GRIDS:
        raise InputError(nearest(name, GRIDS, "grid"))
    return grid(name, paths.model.sde, steps, paths.options["start"], paths.options["stop"])
