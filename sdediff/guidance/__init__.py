"""Guidance: functions from model to model that change what is predicted."""

from sdediff.guidance.autoguide import Autoguidance, autoguidance
from sdediff.guidance.by_classifier import ByClassifier, ClassifierGradient, classifier, classify
from sdediff.guidance.changes import Clip, Threshold, clip, map_prediction, of_x0, score_added, threshold
from sdediff.guidance.composition import Product, independent, product, tempered
from sdediff.guidance.free import ClassifierFree, classifier_free
from sdediff.guidance.plus_plus import PlusPlus, cfg_plus_plus
from sdediff.guidance.projected import Projected, adaptive_projected

__all__ = [
    "Autoguidance", "ByClassifier", "ClassifierFree", "ClassifierGradient", "Clip", "PlusPlus", "Product",
    "Projected",
    "Threshold", "adaptive_projected", "autoguidance", "cfg_plus_plus", "classifier", "classifier_free", "classify",
    "clip", "independent", "map_prediction", "of_x0", "product", "score_added", "tempered",
    "threshold",
]  # fmt: skip
