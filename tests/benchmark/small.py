"""A small sweep, and a network of a module that other processes can load, for the tests of this folder."""

import sdediff as sd
from sdediff.nets import MLP

SOLVERS = ["ddim", "heun", "ancestral", "rk4", "ode"]


def small(out=None, **options):
    """A sweep of one target at two budgets from two seeds."""
    given = {
        "targets": ["target_m"], "solvers": SOLVERS, "calls": (4, 12), "tolerances": (1e-2,), "samples": 40, "seeds": 2,
        "distances": ["energy"], "progress": False, **options,
    }  # fmt: skip
    return sd.bench(out=out, **given)


def tiny(out, **options):
    """A sweep without adaptive solvers: 2 seeds x (real data + 2 solvers x 2 budgets)."""
    given = {"solvers": ["ddim", "euler_maruyama"], "calls": (3, 4), "samples": 20, **options}
    return small(out, **given)


def network():
    """An untrained network of two dimensions."""
    import torch

    torch.manual_seed(0)
    return sd.ScoreModel(MLP(2, width=8, blocks=1).eval().requires_grad_(False), sd.VP())
