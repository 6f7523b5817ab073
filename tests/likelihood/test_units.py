"""Units of a likelihood: nats, bits per dimension, offsets."""

import math

import pytest
import torch

import sdediff as sd
from sdediff.likelihood import offset

F64 = torch.float64


@pytest.mark.parametrize(
    ("levels", "range_", "mapping", "bits"),
    [
        (256, (0, 1), "cells", 8.0),
        (256, (-1, 1), "cells", 7.0),
        (17, (0, 1), "cells", 4.08746284125034),
        (17, (-1, 1), "cells", 3.08746284125034),
        (256, (-1, 1), "ends", 6.99435343686),
        (2, (0.0, 1.0), "cells", 1.0),
        (256, (0, 255), "ends", 0.0),
    ],
)
def test_offsets(levels, range_, mapping, bits):
    assert offset(levels, range_, mapping) == pytest.approx(bits, rel=1e-10, abs=1e-14)


def test_bits_per_dim_of_densities():
    log_prob = torch.tensor([0.0, -64 * math.log(2)], dtype=F64)
    assert sd.bits_per_dim(log_prob, levels=256, range=(0, 1), dims=64).tolist() == pytest.approx([8.0, 9.0])


def test_bits_per_dim_of_uniform_integers_are_log2_of_their_levels():
    # Level k of L, dequantised, is uniform on its cell: density (L/2)^D on [-1, 1] when all levels are equal.
    levels, dims = 17, 6
    log_prob = torch.full((3,), -dims * math.log(2.0), dtype=F64)  # uniform on [-1, 1]^6
    bpd = sd.bits_per_dim(log_prob, levels=levels, range=(-1, 1), dims=dims)
    assert bpd.tolist() == pytest.approx([math.log2(levels)] * 3, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 1, "range": (0, 1)}, r"levels=1, range=\(0, 1\): at least two levels and a rising range"),
        ({"levels": 256, "range": (1, -1)}, r"levels=256, range=\(1, -1\)"),
        ({"levels": 256, "range": (0, 0)}, "a rising range are needed"),
        ({"levels": 256, "range": (0, math.nan)}, "range=nan: give a finite number"),
        ({"levels": 256, "range": (0, 1), "mapping": "bins"}, "unknown mapping 'bins'"),
        ({"levels": 256, "range": (0, 1), "dims": None}, "needs dims=, the numbers a sample"),
    ],
)
def test_wrong_units_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sd.bits_per_dim(torch.zeros(2), **{"dims": 4, **options})
