"""Which solver, which grid: exact answers on Gaussian data, tuned grids, and measurements on a model."""

from sdediff.analysis.convergence import Stability, order, stability
from sdediff.analysis.gaussian import Analysis, analyse
from sdediff.analysis.model_paths import GridChoice, Paths, confirm, paths, tune
from sdediff.analysis.plots import plot_convergence, plot_spectrum
from sdediff.analysis.recommendation import MeasuredCandidate, Recommendation
from sdediff.analysis.response import Impulses, NotLinear, Response, gaussian_model, impulse_response
from sdediff.analysis.selection import auto, recommend
from sdediff.analysis.tuning import spectrum, tuned

__all__ = [
    "Analysis",
    "GridChoice",
    "Impulses",
    "MeasuredCandidate",
    "NotLinear",
    "Paths",
    "Recommendation",
    "Response",
    "Stability",
    "analyse",
    "auto",
    "confirm",
    "gaussian_model",
    "impulse_response",
    "order",
    "paths",
    "plot_convergence",
    "plot_spectrum",
    "recommend",
    "spectrum",
    "stability",
    "tune",
    "tuned",
]
