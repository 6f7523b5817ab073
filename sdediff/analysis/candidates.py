"""What a recommendation chooses from: solvers beside fixed grids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from sdediff._utils.suggestions import nearest
from sdediff.analysis.measure import Paths
from sdediff.analysis.tuning import fixed_grids
from sdediff.grids.grids import GRIDS, grid
from sdediff.solvers import Solver, SolverError, lower_order_final, solver

Wanted = str | Solver | tuple[str | Solver, str]


class Member(NamedTuple):
    """A solver and how it is written: a name with options, or a Solver object alone."""

    solver: Solver
    name: str | None
    options: dict[str, Any]

    @property
    def python(self) -> str:
        """As Python."""
        if self.name is None:
            return repr(self.solver)
        given = "".join(f", {key}={value!r}" for key, value in self.options.items())
        return f"sd.solver({self.name!r}{given})" if given else repr(self.name)

    @property
    def label(self) -> str:
        """As a person reads it."""
        given = " ".join(f"{key}={value}" for key, value in self.options.items())
        return repr(self.solver) if self.name is None else f"{self.name} {given}".strip()

    @property
    def command(self) -> str | None:
        """As options of the command line; None for an object that has no name there."""
        if self.name is None:
            return None
        return " ".join([f"--solver {self.name}", *(f"--option {key}={value}" for key, value in self.options.items())])


class Candidate(NamedTuple):
    """A member of the field on a grid: the grid's name and its times (n + 1,)."""

    member: Member
    grid: str
    times: Tensor


def family(scale: float | str, pca: bool) -> Iterator[Member]:
    """The Adams family over bases and variables, 2 or 3 points, with and without the free corrector; its relatives.

    scale: of the whitened basis; pca: whether the model knows its data's principal directions.
    """
    for points in (2, 3):
        for corrector in (0, points + 1):
            rule = {"points": points, "corrector": corrector}
            for basis, variable in (("x0", "lam"), ("eps", "rho"), ("eps", "lam")):
                yield member("adams", **rule, basis=basis, variable=variable)
            for variable in ("angle", "lam"):
                yield member("angle", **rule, variable=variable, scale=scale)
                if pca:
                    yield member("angle", **rule, variable=variable, scale="pca")
    for variable in ("rho", "lam"):
        yield member("adams", points=4, basis="eps", variable=variable)
        yield member(lower_order_final(solver("adams", points=3, basis="eps", variable=variable), last=2))
    yield member("midpoint", variable="flow")
    yield member("rk4", variable="flow")
    for name in ("ddim", "heun", "dpm_solver_3", "ipndm"):
        yield member(name)


def member(kind: str | Solver, **options: Any) -> Member:
    """A deterministic solver on a grid, by name or as an object; SolverError on any other."""
    used = solver(kind, **options)
    if used.stochastic or used.adaptive or not used.moves:
        raise SolverError(f"{used!r} does not follow the flow on a grid, so has no error to be chosen by: leave it out")
    return Member(used, kind if isinstance(kind, str) else None, options)


def field(on: Paths, calls: int, wanted: Sequence[Wanted] | None, scale: float) -> list[Candidate]:
    """Every candidate that the budget allows: the family, or what is wanted, on the fixed grids or its own one."""
    stats = on.model.stats
    members: list[tuple[Member, str | None]]
    if wanted is None:
        members = [(v, None) for v in family("auto" if stats is not None else scale, stats is not None)]
    else:
        pairs = [v if isinstance(v, tuple) else (v, None) for v in wanted]
        members = [(member(kind), name) for kind, name in pairs]
    found: list[Candidate] = []
    reason = "give candidates"
    for one, name in members:
        try:
            fitted, n = on.fit(one.solver, calls)
        except ValueError as error:  # too few calls for this one
            reason = str(error)
            continue
        # What spends the calls in its own way has no name that would bring it back.
        one = one if fitted == one.solver else Member(fitted, None, {})
        fixed = grids(on, n, scale)
        if name is not None and name not in fixed:
            fixed = {name: _named(on, name, n)}
        found += [Candidate(one, key, times) for key, times in fixed.items() if name in (None, key)]
    if not found:
        raise SolverError(f"no candidate can run: {reason}")
    return found


def grids(on: Paths, n: int, scale: float) -> dict[str, Tensor]:
    """The fixed grids between the ends of these paths, whitening by the scale.

    Where the end is free, also those of n + 1 moves whose last one the denoising call takes, jumping to the data:
    in a few calls that costs less than a step to the least noise and a call there that finds little left to remove.
    """
    sde: Any = on.model.sde
    start = on.options["start"]
    found = fixed_grids(sde, n, start, on.stop, scale)
    longer = fixed_grids(sde, n + 1, start, on.stop, scale) if on.free else {}
    return {**found, **{f"{name}, early end": times[:-1] for name, times in longer.items()}}


def _named(on: Paths, name: str, n: int) -> Tensor:
    if name not in GRIDS:
        raise ValueError(nearest(name, GRIDS, "grid"))
    return grid(name, on.model.sde, n, on.options["start"], on.options["stop"])
