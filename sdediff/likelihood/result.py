"""What a likelihood is told with: log densities of samples and what is known of their errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_NUMBERS = ("log_prob", "std_error", "latent", "calls", "prior_log_prob", "solver_error", "steps", "rejected")


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Log densities of B samples: log_prob (B,) nats, float64, the sum of `terms`, and what is known of its error.

    std_error (B,): of the trace estimate (0 for the exact trace, NaN for one probe); solver_error (B,): of path and
    quadrature, NaN where it was not estimated. latent (B, ...): the state at T. calls, steps, rejected (B,): network
    calls, accepted and rejected tries (-1 where a library does not tell). status: "ok" or what went wrong, a word a
    sample. dims: numbers a sample. t0, end: which density it is; method, prior, scale: by what it was found.
    terms: what log_prob is the sum of, by name, each (B,) nats. mass: the probability of integer levels, not a density.
    """

    log_prob: Tensor
    std_error: Tensor
    latent: Tensor
    calls: Tensor
    status: tuple[str, ...]
    dims: int
    t0: float
    end: str
    prior_log_prob: Tensor
    solver_error: Tensor
    steps: Tensor
    rejected: Tensor
    method: str = "ode"
    prior: str = "sigma"
    scale: str = "1"
    terms: dict[str, Tensor] = field(default_factory=dict)
    mass: bool = False

    def __len__(self) -> int:
        return len(self.log_prob)

    def with_(self, **changes: Any) -> Likelihood:
        """The same result with some fields replaced."""
        return dataclasses.replace(self, **changes)


def joined(parts: Sequence[Likelihood]) -> Likelihood:
    """The results of several batches as one."""
    numbers = {name: torch.cat([getattr(p, name) for p in parts]) for name in _NUMBERS}
    terms = {name: torch.cat([p.terms[name] for p in parts]) for name in parts[0].terms}
    return parts[0].with_(status=tuple(word for p in parts for word in p.status), terms=terms, **numbers)
