"""Discrete chains, DDPM's betas and NCSN's sigmas, as processes with a knot at every integer."""

from __future__ import annotations

import bisect
import functools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import flag, real_tensor
from sdediff._utils.tensors import times64
from sdediff.sde.base import LinearSDE, SDEError


@dataclass(frozen=True)
class Table(LinearSDE):
    """A discrete chain of N knots t = 1..N; between knots lam is linear in t, beyond the ends it is constant.

    Made by `from_betas`, `from_alpha_bars` (DDPM: alpha^2 + sigma^2 = 1) or `from_sigmas` (NCSN: alpha = 1).
    descending: the network counts its labels from the most noise: time="index" reads n - t, 0 at the largest sigma.
    """

    lams: tuple[float, ...] = field(repr=False)
    preserving: bool = True
    descending: bool = False

    grid = "strided"

    def __post_init__(self) -> None:
        lams = real_tensor("lams", self.lams)
        flag("preserving", self.preserving)
        flag("descending", self.descending)
        if lams.ndim != 1 or len(lams) < 2 or not bool((lams.diff() < 0).all()):
            raise SDEError("a table needs at least two knots whose noise rises strictly: check their order")

    @functools.cached_property
    def _knots(self) -> Tensor:
        # Slopes are taken through it, which a tensor made in inference mode would not allow.
        with torch.inference_mode(mode=False):
            return torch.tensor(self.lams, dtype=torch.float64)

    def __repr__(self) -> str:
        kind = "alpha_bars" if self.preserving else "sigmas"
        labels = ", descending=True" if self.descending else ""
        return f"Table.from_{kind}(<{self.n}>, lam {self.lams[0]:.6g} to {self.lams[-1]:.6g}{labels})"

    @staticmethod
    def from_betas(betas: Sequence[float] | Tensor, zero_terminal_snr: bool = False) -> Table:
        """DDPM's table: alpha_bar_i = prod (1 - beta_i), alpha(t_i) = sqrt(alpha_bar_i). Ho et al. 2020.

        zero_terminal_snr: shift and stretch alpha linearly so that it is 0 at the last knot and the same at the
        first; the network must predict v, x0 or velocity there. Lin et al. 2023, algorithm 1.
        """
        flag("zero_terminal_snr", zero_terminal_snr)
        beta = _row("betas", betas)
        if bool(((beta <= 0) | (beta > 1)).any()):
            raise SDEError("betas must lie in (0, 1]")
        log_bar = torch.log1p(-beta).cumsum(0)
        if zero_terminal_snr:
            alpha = torch.exp(0.5 * log_bar)
            return Table.from_alpha_bars(((alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))) ** 2)
        return Table(tuple((0.5 * (log_bar - torch.log(-torch.expm1(log_bar)))).tolist()))

    @staticmethod
    def from_alpha_bars(alpha_bars: Sequence[float] | Tensor) -> Table:
        """A variance-preserving table from its cumulative products, in (0, 1) and falling."""
        bars = _row("alpha_bars", alpha_bars)
        if bool(((bars < 0) | (bars >= 1)).any()):
            raise SDEError("alpha_bars must lie in [0, 1) and fall")
        return Table(tuple((0.5 * (torch.log(bars) - torch.log1p(-bars))).tolist()))

    @staticmethod
    def from_sigmas(sigmas: Sequence[float] | Tensor, descending: bool = False) -> Table:
        """NCSN's table, alpha = 1: positive sigmas in ascending order. Song and Ermon 2019.

        descending: in descending order, as NCSN stores them, and label 0 is the largest sigma for the clock "index".
        """
        flag("descending", descending)
        sigma = _row("sigmas", sigmas)
        if bool((sigma <= 0).any()):
            raise SDEError("sigmas must be positive")
        if descending:
            sigma = sigma.flip(0)
        if bool((sigma.diff() <= 0).any()):
            if descending:
                raise SDEError("from_sigmas(descending=True) takes descending sigmas: flip the list")
            raise SDEError(
                "from_sigmas takes ascending sigmas: flip the list, or write descending=True (NCSN's labels)"
            )
        return Table(tuple((-torch.log(sigma)).tolist()), preserving=False, descending=descending)

    def __hash__(self) -> int:
        return hash((self.lams[0], self.lams[-1], len(self.lams), self.preserving, self.descending))

    @property
    def n(self) -> int:
        """The number of knots."""
        return len(self.lams)

    @property
    def T(self) -> float:  # type: ignore[override]
        return float(self.n)

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return 1.0

    @property
    def t0(self) -> float:
        return self.t_min

    def last_start(self, lam: float) -> float:
        """The last knot at which alpha is exp(lam) or more; at least the last one where it is not 0."""
        if not self.preserving:
            return self.T
        last = self.n if math.isfinite(self.lams[-1]) else self.n - 1
        return float(max(1, min(last, bisect.bisect_right(self.lams, -lam, key=operator.neg))))

    def lam(self, t: Any) -> Tensor:
        given = self.within(t)  # from torch 2.14 on the gradient of clamp is 0 at its bounds, where slopes are needed
        time = torch.where((given >= 1) & (given <= self.n), given, given.detach().clamp(1, self.n))
        knots = self._knots.to(time.device)
        low = (time.detach().floor().long() - 1).clamp(max=self.n - 2)
        weight = time - (low + 1)
        below, above = knots[low], knots[low + 1]
        drop = above - below
        drop = torch.where(torch.isinf(drop) & (weight == 0), torch.zeros_like(drop), drop)
        return below + drop * weight

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sqrt(torch.sigmoid(2 * self.lam(t))) if self.preserving else torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        lam = self.lam(t)
        return torch.sqrt(torch.sigmoid(-2 * lam)) if self.preserving else torch.exp(-lam)

    def t_of_lam(self, lam: Any) -> Tensor:
        target = times64(lam)
        knots = self._knots.to(target.device)
        target = target.clamp(knots[-1], knots[0])
        above = torch.searchsorted(-knots, -target).clamp(1, self.n - 1)
        first, last = knots[above - 1], knots[above]
        return above + ((target - first) / (last - first)).nan_to_num(0.0)


def _row(name: str, values: Any) -> Tensor:
    """A table's numbers, float64 (N,)."""
    row = real_tensor(name, values)
    if row.ndim != 1 or not bool(torch.isfinite(row).all()):
        raise SDEError(f"{name} of shape {tuple(row.shape)}: give a row of finite numbers, one a knot")
    return row
