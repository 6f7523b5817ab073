"""A small network and quick options for the data-set job."""

import torch

import sdediff as sd
from sdediff.nets import MLP

QUICK = {"trace": "exact", "rtol": 1e-2, "atol": 1e-2}


def network(dims=2, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return sd.ScoreModel(MLP(dims, width=8, blocks=1).eval().to(dtype), sd.VP())
