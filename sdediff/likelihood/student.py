"""Standard errors from few probes: widened to Student's quantile, so that 1.96 of them cover 95 %."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# The 97.5 % quantile of Student's law by the inverse of its degrees of freedom; in between, its logarithm is linear.
_NORMAL = 1.959964
_FREEDOM = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, np.inf)
_QUANTILE = (
    12.7062, 6.1014, 4.3027, 3.5582, 3.1824, 2.7764, 2.5706, 2.4469, 2.3060, 2.2281, 2.1314, 2.0860, 2.0423, 2.0003,
    _NORMAL,
)  # fmt: skip


class Spread(NamedTuple):
    """A variance (b,) that is a sum of estimates, and the sum of their squares over their degrees of freedom plus 2."""

    variance: Tensor
    squares: Tensor

    @classmethod
    def of(cls, variance: Tensor, freedom: Tensor | float) -> Spread:
        """A variance estimated with so many degrees of freedom."""
        return cls(variance, variance**2 / (freedom + 2))

    def scaled(self, factor: Tensor | float) -> Spread:
        """The spread of the estimate times a factor."""
        return Spread(self.variance * factor**2, self.squares * factor**4)

    def __add__(self, other: Spread) -> Spread:  # type: ignore[override]
        return Spread(self.variance + other.variance, self.squares + other.squares)

    @property
    def std_error(self) -> Tensor:
        """The standard error (b,), times Student's quantile over the normal one, for Satterthwaite's freedom.

        Satterthwaite 1946; 2 is added to the freedom of each estimate, whose square is that much too large in the
        mean, and subtracted from their sum's.
        """
        freedom = (self.variance**2 / self.squares.clamp(min=torch.finfo(torch.float64).tiny) - 2).clamp(min=1)
        inverse, quantile = 1 / np.array(_FREEDOM[::-1]), np.log(np.array(_QUANTILE[::-1]) / _NORMAL)
        wider = np.exp(np.interp(1 / freedom.detach().cpu().numpy(), inverse, quantile))
        return self.variance.sqrt() * torch.from_numpy(wider).to(self.variance.device)
