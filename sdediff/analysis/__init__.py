"""Which solver, which grid: exact answers on Gaussian data, tuned grids, and measurements on a model."""

from sdediff.analysis.gaussian import Analysis, Stability, analyse, order, stability
from sdediff.analysis.measure import Choice, Paths, confirm, paths, tune
from sdediff.analysis.plots import plot_convergence, plot_spectrum
from sdediff.analysis.recommendation import auto, recommend
from sdediff.analysis.report import Recommendation, Row
from sdediff.analysis.response import Impulses, NotLinear, Response, gaussian_model, impulse_response
from sdediff.analysis.tuning import spectrum, tuned

__all__ = [
    "Analysis",
    "Choice",
    "Impulses",
    "NotLinear",
    "Paths",
    "Recommendation",
    "Response",
    "Row",
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
