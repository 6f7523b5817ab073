"""From noise to data and back: one run of a solver over a grid."""

from sdediff.sampling import latent
from sdediff.sampling.api import Record, decode, encode, iterate, sample
from sdediff.sampling.run import State

__all__ = ["Record", "State", "decode", "encode", "iterate", "latent", "sample"]
