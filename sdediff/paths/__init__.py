"""Densities of the paths of stochastic solvers: replay under other weights, divergences, weights and particles."""

from sdediff.paths.feynman_kac import smc
from sdediff.paths.particles import Particles
from sdediff.paths.recorded import path_kl, replay
from sdediff.paths.transitions import transition
from sdediff.paths.weights import Importance, importance

__all__ = ["Importance", "Particles", "importance", "path_kl", "replay", "smc", "transition"]
