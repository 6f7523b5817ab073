"""Solvers by name: one line each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.references import imported, is_reference, plugin, plugins
from sdediff._utils.suggestions import nearest
from sdediff.solvers import adams
from sdediff.solvers.adaptive import AdaptiveRK, DPMAdaptive
from sdediff.solvers.adaptive_sde import AdaptiveSDE
from sdediff.solvers.angle import Angle
from sdediff.solvers.base import Solver, SolverError, check_fields
from sdediff.solvers.black_box import ODE, ReverseSDE
from sdediff.solvers.churn import AncestralStep, Churn
from sdediff.solvers.dpm_solver_v3 import dpm_solver_v3
from sdediff.solvers.exponential import DDIM
from sdediff.solvers.langevin import AnnealedLangevin, ConsistentAnnealedLangevin, Langevin
from sdediff.solvers.linear_multistep import LinearMultistep, gradient_estimation, ipndm
from sdediff.solvers.renoise import Renoise
from sdediff.solvers.restart import Restart
from sdediff.solvers.reverse_sde import Ancestral, EulerMaruyama, ReverseDiffusion
from sdediff.solvers.runge_kutta import RungeKutta
from sdediff.solvers.seeds import seeds
from sdediff.solvers.singlestep import DPMFast, DPMppSDE, Singlestep
from sdediff.solvers.wrappers import LowerOrderFinal, PredictorCorrector


def predictor_corrector(
    predictor: str | Solver = "reverse_diffusion",
    corrector: str | Solver = "langevin",
    first: str = "corrector",
) -> PredictorCorrector:
    """Any predictor with any corrector. first: "corrector" as the released code, "predictor" as the paper."""
    return PredictorCorrector(solver(predictor), solver(corrector), first)


def lower_order_final(kind: str | Solver, last: int = 1, below: int | None = None) -> LowerOrderFinal:
    """A solver, by name or object, that ends at lower order: min(order, last + k - 1) with k steps left.

    last: the order of the last step; 2 where the last jump to data counts as one more step, as in libraries whose
    grids end at sigma = 0. below: only in runs of fewer steps, since long ones need no such care (10 in
    dpm-solver's code, 15 in its documentation, jump included, and elsewhere). Refuses solvers of one order.
    """
    return LowerOrderFinal(solver(kind), last, below)


# A name stands for a class or function with arguments filled in; users may override them by keyword.
REGISTRY: dict[str, Callable[..., Solver]] = {
    "euler_maruyama": EulerMaruyama,
    "reverse_diffusion": ReverseDiffusion,
    "ancestral": Ancestral,
    "ddpm": functools.partial(Ancestral, variance="large"),
    "ddim": DDIM,
    "renoise": Renoise,
    "langevin": Langevin,
    "predictor_corrector": predictor_corrector,
    "annealed_langevin": AnnealedLangevin,
    "consistent_annealed_langevin": ConsistentAnnealedLangevin,
    "euler": functools.partial(RungeKutta, method="euler"),
    "heun": functools.partial(RungeKutta, method="heun"),
    "midpoint": functools.partial(RungeKutta, method="midpoint"),
    "ralston": functools.partial(RungeKutta, method="ralston"),
    "kutta3": functools.partial(RungeKutta, method="kutta3"),
    "rk4": functools.partial(RungeKutta, method="rk4"),
    "rk38": functools.partial(RungeKutta, method="rk38"),
    "rk5": functools.partial(RungeKutta, method="butcher5"),
    "edm": functools.partial(Churn, RungeKutta("heun", variable="sigma")),
    "restart": functools.partial(Restart, RungeKutta("heun", variable="sigma")),
    "euler_ancestral": functools.partial(AncestralStep, DDIM()),
    "dpm2_ancestral": functools.partial(AncestralStep, Singlestep(2)),
    "dpmpp_2s_ancestral": functools.partial(AncestralStep, Singlestep(2, "x0")),
    "dpm_solver_1": functools.partial(Singlestep, stages=1),
    "dpm_solver_2": functools.partial(Singlestep, stages=2),
    "dpm_solver_3": functools.partial(Singlestep, stages=3),
    "dpm_solver_2m": adams.dpm_solver_multistep,
    "dpm_solver_3m": functools.partial(adams.dpm_solver_multistep, order=3),
    "dpm2": functools.partial(Singlestep, stages=2),
    "dpm_fast": DPMFast,
    "dpmpp_2s": functools.partial(Singlestep, stages=2, basis="x0"),
    "dpmpp_3s": functools.partial(Singlestep, stages=3, basis="x0"),
    "dpmpp_sde": DPMppSDE,
    "dpmpp_2m": adams.dpmpp_2m,
    "dpmpp_3m": adams.dpmpp_3m,
    "dpmpp_2m_sde": adams.dpmpp_2m_sde,
    "dpmpp_3m_sde": adams.dpmpp_3m_sde,
    "unipc": adams.unipc,
    "deis": adams.deis,
    "lms": adams.lms,
    "sa_solver": adams.sa_solver,
    "er_sde": adams.er_sde,
    "res_multistep": adams.res_multistep,
    "adams": adams.Adams,
    "angle": Angle,
    "ipndm": ipndm,
    "plms": functools.partial(LinearMultistep, warm_up="improved_euler"),
    "pndm": functools.partial(LinearMultistep, warm_up="runge_kutta"),
    "gradient_estimation": gradient_estimation,
    "seeds": seeds,
    "dpm_solver_v3": dpm_solver_v3,
    "rk_adaptive": AdaptiveRK,
    "dpm_adaptive": DPMAdaptive,
    "adaptive_sde": AdaptiveSDE,
    "ode": ODE,
    "sde": ReverseSDE,
}


def names() -> list[str]:
    """Every registered name, plug-ins included."""
    return list(dict.fromkeys([*REGISTRY, *plugins("solvers")]))


def maker(name: str) -> Any:
    """What a solver's name stands for: a class or function that makes it, or a solver. SolverError: unknown names."""
    if name in REGISTRY:
        return REGISTRY[name]
    try:
        if is_reference(name):
            made = imported(name, "solver")
        else:
            registered = plugins("solvers")
            if name not in registered:
                raise SolverError(nearest(name, names(), "solver"))
            made = plugin("solvers", registered[name])
    except InputError as error:
        raise SolverError(str(error)) from error
    if not callable(made) and not isinstance(made, Solver):
        raise SolverError(f"{name} is a {type(made).__name__}, needed is a subclass of sdediff.Solver")
    return made


def solver(kind: str | Solver, /, **options: Any) -> Solver:
    """A solver by name with its hyper-parameters, e.g. solver("ddim", eta=0.5); solver objects pass through.

    A name is one of the registry, one that an installed package registers, or a reference package.module:MySolver.
    Unknown names are answered with the nearest ones, unknown options with those that the solver takes.
    """
    if isinstance(kind, Solver):
        if options:
            raise SolverError(f"{kind!r} is a solver object: give {', '.join(options)} to its class")
        return kind
    if not isinstance(kind, str):
        raise InputTypeError(
            f"a solver is a name or a Solver object, given {type(kind).__name__}: make it with MySolver()"
        )
    make = maker(kind)
    if isinstance(make, Solver):
        return solver(make, **options)
    try:
        built = make(**options)
    except (TypeError, AttributeError) as error:
        raise SolverError(f"solver {kind!r}: {error}") from error
    if not isinstance(built, Solver):
        raise SolverError(f"{kind!r} gave {type(built).__name__}, needed: a sdediff.solvers.Solver")
    if options:
        check_fields(built)
    return built


def list_solvers() -> dict[str, Solver]:
    """The registry: name -> the solver at its defaults, which says its kind, order, calls, grid and reference."""
    return {name: solver(name) for name in names()}
