"""Inverse problems and image to image: samples given a measurement, or an image to start from."""

from sdediff.inverse.api import colourise, inpaint, solve, with_known
from sdediff.inverse.ddrm import DDRM
from sdediff.inverse.edits import DPS, Replacement
from sdediff.inverse.images import edit, image_to_image, invert
from sdediff.inverse.methods import METHODS, Method
from sdediff.inverse.operators import Grey, Mask, Matrix, Operator, Problem, channel_mix
from sdediff.inverse.predictions import TMPD, DiffPIR, PiGDM

__all__ = [
    "DDRM", "DPS", "METHODS", "TMPD", "DiffPIR", "Grey", "Mask", "Matrix", "Method", "Operator", "PiGDM", "Problem",
    "Replacement", "channel_mix", "colourise", "edit", "image_to_image", "inpaint", "invert", "solve", "with_known",
]  # fmt: skip
