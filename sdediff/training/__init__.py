"""Training: objectives, and a loop with averaged weights, checkpoints and several processes."""

from sdediff.training.autoencoders import (
    AutoencoderLoss,
    CriticisedAutoencoder,
    kl_to_normal,
    train_autoencoder,
    vq_loss,
)
from sdediff.training.batches import dequantised
from sdediff.training.classifier import ClassifierLoss, classify
from sdediff.training.configuration import Configuration, configs, read_config
from sdediff.training.denoising import loss
from sdediff.training.draws import Draws
from sdediff.training.loop import build, train
from sdediff.training.loss_history import LossHistory
from sdediff.training.ncsn import ladder_ratio, ladder_size, langevin_step, largest_distance, noise_ladder
from sdediff.training.objective import Objective, TrainingObjective
from sdediff.training.score_matching import ImplicitScoreMatching
from sdediff.training.settings import TrainingError, TrainingLog, TrainingSettings
from sdediff.training.spreads import SPREADS, Mixture, Shifted, lam_weight, training_times
from sdediff.training.texts import TextConditioned, train_with_texts
from sdediff.training.times import LogitNormal, LogNormalSigma, Mode, TimeDistribution, Uniform, UniformLam
from sdediff.training.validation import Validation
from sdediff.training.variational import VariationalBound, bound_terms
from sdediff.training.vdm import VariationalDiffusion
from sdediff.training.weightings import WEIGHTINGS, output_weight

__all__ = [
    "SPREADS",
    "WEIGHTINGS",
    "AutoencoderLoss",
    "ClassifierLoss",
    "Configuration",
    "CriticisedAutoencoder",
    "Draws",
    "ImplicitScoreMatching",
    "LogNormalSigma",
    "LogitNormal",
    "LossHistory",
    "Mixture",
    "Mode",
    "Objective",
    "Shifted",
    "TextConditioned",
    "TimeDistribution",
    "TrainingError",
    "TrainingLog",
    "TrainingObjective",
    "TrainingSettings",
    "Uniform",
    "UniformLam",
    "Validation",
    "VariationalBound",
    "VariationalDiffusion",
    "bound_terms",
    "build",
    "classify",
    "configs",
    "dequantised",
    "kl_to_normal",
    "ladder_ratio",
    "ladder_size",
    "lam_weight",
    "langevin_step",
    "largest_distance",
    "loss",
    "noise_ladder",
    "output_weight",
    "read_config",
    "train",
    "train_autoencoder",
    "train_with_texts",
    "training_times",
    "vq_loss",
]
