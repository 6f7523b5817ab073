"""Solvers: one step from noise towards data, by name or as objects."""

from sdediff.solvers.adams import Adams
from sdediff.solvers.base import Solver, SolverError
from sdediff.solvers.black_box import ODE, ReverseSDE
from sdediff.solvers.compose import Then
from sdediff.solvers.exponential import DDIM, DPMpp2M
from sdediff.solvers.langevin import AnnealedLangevin, Langevin
from sdediff.solvers.registry import REGISTRY, Info, names, predictor_corrector, solver, solvers
from sdediff.solvers.runge_kutta import RungeKutta
from sdediff.solvers.sde import Ancestral, EulerMaruyama, ReverseDiffusion

__all__ = [
    "DDIM",
    "ODE",
    "REGISTRY",
    "Adams",
    "Ancestral",
    "AnnealedLangevin",
    "DPMpp2M",
    "EulerMaruyama",
    "Info",
    "Langevin",
    "ReverseDiffusion",
    "ReverseSDE",
    "RungeKutta",
    "Solver",
    "SolverError",
    "Then",
    "names",
    "predictor_corrector",
    "solver",
    "solvers",
]
