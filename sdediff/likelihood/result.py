"""`Likelihood`, the result of log_likelihood: log densities of samples and estimates of their errors."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdediff.model.data_card import DataCard

_PER_SAMPLE = ("log_prob", "std_error", "latent", "calls", "prior_log_prob", "solver_error", "steps", "rejected")


@dataclass(frozen=True, eq=False, repr=False)
class Likelihood:
    """Log densities of B samples: log_prob (B,) nats, float64, the sum of `terms`, with estimates of its error.

    std_error (B,): of the trace estimate (0 for the exact trace, NaN for one probe); solver_error (B,): of path and
    quadrature, NaN where it was not estimated. latent (B, ...): the state at T. calls, steps, rejected (B,): network
    evaluations, accepted and rejected steps (-1 where a library does not report them). status: "ok" or the reason of
    a failure, one a sample. dims: numbers a sample. t0, end: the density that is reported; method, prior, scale: how.
    terms: the parts of log_prob by name, each (B,) nats. mass: whether it is the probability of integer levels, not a
    density. data: what the model's card says of its data. of: whose density, "samples", "latents" or "images".
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
    data: DataCard = field(default_factory=DataCard)
    of: str = "samples"

    def __len__(self) -> int:
        return len(self.log_prob)

    def __repr__(self) -> str:
        failed = sum(word != "ok" for word in self.status)
        failures = f", {failed} failed" if failed else ""
        return (
            f"Likelihood({len(self)} samples{failures}, {self._mean(self.log_prob)}, "
            f"method={self.method!r}, end={self.end!r}, prior={self.prior!r}, "
            f"{self.calls.double().mean().item():.0f} calls a sample)"
            f"{'' if self.of == 'samples' else ' of ' + self.of}"
            f"{self.difference and ': ' + self.difference}"
        )

    @property
    def difference(self) -> str:
        """How the number differs from log p_{t0} under N(0, sigma_T^2 I), which the literature reports; or nothing."""
        return difference(self.method, self.end, self.prior)

    def _repr_html_(self) -> str:
        """A table of the parts of log p, with means and standard errors over the samples, for notebooks."""
        rows = [("log p", self.log_prob), *self.terms.items()]
        rows += [("std_error", self.std_error), ("solver_error", self.solver_error)]
        good = self._good()
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{_figure(value.detach().cpu()[good])}</td></tr>"
            for name, value in rows
        )
        head = "<tr><th></th><th>mean over samples, nats</th></tr>"
        return f"<p>{html.escape(repr(self))}</p><table>{head}{cells}</table>"

    def _good(self) -> Tensor:
        return torch.tensor([word == "ok" for word in self.status], dtype=torch.bool)

    def _mean(self, value: Tensor) -> str:
        return f"mean log p {_figure(value.detach().cpu()[self._good()])} nats"

    def with_(self, **changes: Any) -> Likelihood:
        """The same result with some fields replaced."""
        return dataclasses.replace(self, **changes)


def difference(method: str, end: str, prior: str) -> str:
    """How a likelihood of the flow differs from the literature's, with the settings that undo it; or nothing."""
    if "vlb" in method:
        return ""
    parts = []
    if end == "heat":
        parts.append(("log p of x itself, not of a state at t0", 'end="t0"'))
    if end == "noised":
        parts.append(("a bound through x with noise", 'end="t0"'))
    if prior not in ("sigma", "given"):
        parts.append((f"{prior} prior, not N(0, sigma_T^2 I)", 'prior="sigma"'))
    return (
        f"{', '.join(said for said, _ in parts)}; the literature has {', '.join(v for _, v in parts)}" if parts else ""
    )


def _figure(values: Tensor) -> str:
    """The mean of values (n,) and its standard error over them."""
    if not len(values):
        return "none"
    mean = f"{values.double().mean().item():.4g}"
    return mean if len(values) < 2 else f"{mean} +- {(values.double().std() / len(values) ** 0.5).item():.2g}"


def joined(parts: Sequence[Likelihood]) -> Likelihood:
    """The results of several micro-batches as one."""
    numbers = {name: torch.cat([getattr(part, name) for part in parts]) for name in _PER_SAMPLE}
    terms = {name: torch.cat([part.terms[name] for part in parts]) for name in parts[0].terms}
    return parts[0].with_(status=tuple(word for part in parts for word in part.status), terms=terms, **numbers)
