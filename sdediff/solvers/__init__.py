"""Solvers: one step from noise towards data, by name or as objects."""

from sdediff.solvers.adams import Adams
from sdediff.solvers.adaptive import AdaptiveRK, DPMAdaptive
from sdediff.solvers.adaptive_sde import AdaptiveSDE
from sdediff.solvers.angle import Angle
from sdediff.solvers.base import Solver, SolverError
from sdediff.solvers.black_box import ODE, ReverseSDE
from sdediff.solvers.churn import AncestralStep, Churn
from sdediff.solvers.dpm_solver_v3 import DPMSolverV3
from sdediff.solvers.exponential import DDIM, CoefficientsPreserving
from sdediff.solvers.gaussian import GaussianStep
from sdediff.solvers.kernel import StepKernel
from sdediff.solvers.langevin import AnnealedLangevin, ConsistentAnnealedLangevin, Langevin
from sdediff.solvers.linear_multistep import LinearMultistep
from sdediff.solvers.mean_shift import MeanShift
from sdediff.solvers.registry import REGISTRY, list_solvers, lower_order_final, names, predictor_corrector, solver
from sdediff.solvers.renoise import Renoise
from sdediff.solvers.restart import Restart
from sdediff.solvers.reverse_sde import Ancestral, EulerMaruyama, ReverseDiffusion
from sdediff.solvers.runge_kutta import RungeKutta
from sdediff.solvers.seeds import Seeds
from sdediff.solvers.singlestep import DPMFast, DPMppSDE, Singlestep
from sdediff.solvers.v3_statistics import ModelStatistics, model_statistics
from sdediff.solvers.wrappers import LowerOrderFinal, PredictorCorrector, Wrapper

__all__ = [
    "DDIM",
    "ODE",
    "REGISTRY",
    "Adams",
    "AdaptiveRK",
    "AdaptiveSDE",
    "Ancestral",
    "AncestralStep",
    "Angle",
    "AnnealedLangevin",
    "Churn",
    "CoefficientsPreserving",
    "ConsistentAnnealedLangevin",
    "DPMAdaptive",
    "DPMFast",
    "DPMSolverV3",
    "DPMppSDE",
    "EulerMaruyama",
    "GaussianStep",
    "Langevin",
    "LinearMultistep",
    "LowerOrderFinal",
    "MeanShift",
    "ModelStatistics",
    "PredictorCorrector",
    "Renoise",
    "Restart",
    "ReverseDiffusion",
    "ReverseSDE",
    "RungeKutta",
    "Seeds",
    "Singlestep",
    "Solver",
    "SolverError",
    "StepKernel",
    "Wrapper",
    "list_solvers",
    "lower_order_final",
    "model_statistics",
    "names",
    "predictor_corrector",
    "solver",
]
