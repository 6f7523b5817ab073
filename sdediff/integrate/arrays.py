"""Numbers on the host beside states on any device, and the norm of an error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.tensors import per_sample


def rows_of(value: np.ndarray, x: Tensor) -> Tensor:
    """Numbers (b,) as a tensor (b, 1, ...) that broadcasts with states x (b, ...), in their dtype."""
    rows: Tensor = per_sample(torch.from_numpy(value), x)
    return rows


def scaled_norm(error: Tensor, one: Tensor, two: Tensor, rtol: float, atol: float, floor: bool = False) -> np.ndarray:
    """Root mean square (b,) of error / (atol + rtol max(|one|, |two|)), a sample; floor: of the larger term alone."""
    with torch.no_grad():
        scale = torch.maximum(one.abs(), two.abs()).mul_(rtol)
        scale = scale.clamp_(min=atol) if floor else scale.add_(atol)
        ratio = (error / scale).flatten(1)
        ratio = ratio if ratio.dtype in (torch.float32, torch.float64) else ratio.float()
        norm = torch.linalg.vector_norm(ratio, dim=1) / math.sqrt(ratio.shape[1])
        norms: np.ndarray = norm.cpu().double().numpy()
    return norms


def host(value: Any) -> np.ndarray:
    """Numbers or a tensor of any device as a float64 array on the host."""
    on_host = value.detach().cpu() if isinstance(value, Tensor) else value
    numbers: np.ndarray = torch.as_tensor(on_host, dtype=torch.float64).numpy()
    return numbers


def each(value: Any, batch: int) -> np.ndarray:
    """A number, or one for each sample, as a new float64 array (B,) on the host."""
    return np.broadcast_to(host(value), (batch,)).copy()
