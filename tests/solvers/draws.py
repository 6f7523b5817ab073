"""Unit normals of torch's own generator, where a fixture does not reach."""

from __future__ import annotations

import torch

F64 = torch.float64


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))
