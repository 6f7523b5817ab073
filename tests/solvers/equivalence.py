"""Inputs of the tests of equivalence: DDPM, NCSN, DDIM, EDM and the DPM-Solvers as discretisations of one process.

Every formula there is written out from its paper or its released code, in that source's own notation, with
a network that is no score of anything: an identity that holds must hold for any network.
"""

from dataclasses import dataclass, field

import torch

import sdediff as sd
from sdediff.sampling.run import Plan, make_table

F64 = torch.float64
T1000 = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
SHAPE = (3, 4)


def net(x, clock):
    """Not a score of anything, smooth and bounded, different at every clock."""
    return torch.tanh(0.7 * x + torch.sin(clock)[:, None]) + 0.1 * torch.cos(clock)[:, None] * x


def at(clock):
    """The same for a float."""
    return lambda x: net(x, torch.full((len(x),), float(clock), dtype=F64))


@dataclass(frozen=True)
class Tape(sd.Noise):
    """Normals drawn from a list in the order in which they are asked for, whoever asks."""

    drawn: list = field(default_factory=list)

    def initial(self, like):
        return self()

    def __call__(self, t=None, s=None, like=None, draw=0):
        seed = 1000 * self.seed + len(self.drawn)
        self.drawn.append(seed)
        return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=F64)

    def shifted(self, draws=1):
        return self


def same(found, expected, tolerance=1e-12):
    """Equal to 1e-12 of the size of what is compared."""
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


def table(solver, model, times, x):
    """The levels and the bound model of a run between these times, with what the solver needs there."""
    return make_table(model, Plan(sd.solver(solver), torch.as_tensor(times, dtype=F64), False), x)


def one_step(solver, model, x, times):
    """x after one step between two times, and the noise that it met."""
    levels, _, bound = table(solver, model, times, x)
    stepped, _ = sd.solver(solver).step(bound, x, levels[0], levels[1], None, Tape(seed=1))
    return stepped, Tape(seed=1)()


class Ones(Tape):
    """Every draw is one."""

    def __call__(self, t=None, s=None, like=None, draw=0):
        return torch.ones_like(like)


def std_of(solver, sde, t, s):
    """What a step multiplies its noise with."""
    nothing, x = sd.ScoreModel(lambda x, t: 0 * x, sde, predicts="x0"), torch.zeros(1, 1, dtype=F64)
    levels, _, bound = table(solver, nothing, [t, s], x)
    stepped, _ = sd.solver(solver).step(bound, x, *levels, None, Ones())
    return stepped.item()


NCSN = torch.logspace(1, -2, 10, dtype=F64)  # sigma_1 = 10 > ... > sigma_L = 0.01, the paper's


def ncsn_model():
    table = sd.Table.from_sigmas(NCSN.flip(0))
    return sd.ScoreModel(lambda x, sigma: net(x, sigma), table, predicts="score", time="sigma")
