"""From noise to data and back: one run of a solver over a grid."""

from sdediff.sampling import latent
from sdediff.sampling.api import Sampler, SampleRecord, iterate, sample
from sdediff.sampling.encoding import decode, encode
from sdediff.sampling.plan import CHOOSERS
from sdediff.sampling.run import State

__all__ = ["CHOOSERS", "SampleRecord", "Sampler", "State", "decode", "encode", "iterate", "latent", "sample"]
