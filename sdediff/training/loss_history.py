"""Timesteps drawn by the size of their losses: the last ten of each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sdediff._utils.checks import number, whole
from sdediff._utils.errors import InputError


class LossHistory(nn.Module):
    """The last losses of every timestep of a table; timesteps are drawn by their root mean square.

    timesteps: the table's number; length: losses kept of each; uniform: the share that is drawn evenly. Until every
    timestep has its losses all are drawn evenly. Nichol and Dhariwal 2021, eq. 18. Losses are held as they are before
    they are weighted, wait in `pending` and enter with `settle`, which gathers those of all processes.
    """

    losses: Tensor
    counts: Tensor

    def __init__(self, timesteps: int, length: int = 10, uniform: float = 0.001) -> None:
        super().__init__()
        whole("timesteps", timesteps, 2)
        whole("length", length, 1)
        if not 0 < number("uniform", uniform) < 1:
            raise InputError(f"uniform={uniform}: give a share between 0 and 1")
        self.uniform = uniform
        self.register_buffer("losses", torch.zeros(timesteps, length, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(timesteps, dtype=torch.int64))
        self.pending: list[tuple[Tensor, Tensor]] = []

    def probabilities(self) -> Tensor:
        """The probability of each timestep, float64 (timesteps,)."""
        n, length = self.losses.shape
        if not bool((self.counts >= length).all()):
            return torch.full((n,), 1 / n, dtype=torch.float64)
        size = self.losses.square().mean(1).sqrt()
        total = size.sum()
        share = size / total if total > 0 else torch.full_like(size, 1 / n)
        return (1 - self.uniform) * share + self.uniform / n

    def draw(self, timesteps: int, u: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps 1 .. n from uniform numbers u (B,), and the weights 1/(n p) that keep the expected loss."""
        n = len(self.losses)
        if timesteps != n:
            raise InputError(
                f"the history is of {n} timesteps, the table has {timesteps}: make LossHistory({timesteps})"
            )
        p = self.probabilities().cpu()
        edges = p.cumsum(0)
        i = torch.searchsorted(edges / edges[-1], u.double(), right=True).clamp(max=n - 1)
        return (i + 1).double(), 1 / (n * p[i])

    def add(self, t: Tensor, losses: Tensor) -> None:
        """Keep unweighted losses (B,) of timesteps t until `settle`."""
        self.pending.append((t.detach().cpu(), losses.detach().double().cpu()))

    def settle(self, gather: Callable[[Tensor], Tensor] | None = None) -> None:
        """Enter what is pending, of all processes where `gather` joins a tensor of theirs: once an update."""
        if not self.pending:
            return
        t, losses = (torch.cat(parts) for parts in zip(*self.pending, strict=True))
        self.pending = []
        if gather is not None:
            t, losses = gather(t), gather(losses)
        for step, value in zip((t.long() - 1).tolist(), losses.tolist(), strict=True):
            row = self.losses[step]
            row[:-1] = row[1:].clone()
            row[-1] = value
            self.counts[step] += 1
