"""A network with its process, its parametrisation and its clock; what it predicts; the data's statistics."""

from sdediff.model.bound import BoundModel
from sdediff.model.clock import CLOCKS, Clock
from sdediff.model.data_card import DataCard
from sdediff.model.data_check import check_data, ranged
from sdediff.model.data_statistics import Statistics, statistics
from sdediff.model.parts import Autoencoder, TextEncoder
from sdediff.model.prediction import PARAMETRISATIONS, ModelError, Prediction
from sdediff.model.score_model import Change, Model, ScoreModel, reschedule

__all__ = [
    "CLOCKS",
    "PARAMETRISATIONS",
    "Autoencoder",
    "BoundModel",
    "Change",
    "Clock",
    "DataCard",
    "Model",
    "ModelError",
    "Prediction",
    "ScoreModel",
    "Statistics",
    "TextEncoder",
    "check_data",
    "ranged",
    "reschedule",
    "statistics",
]
