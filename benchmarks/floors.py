"""Floors of the overhead benchmark: a step's tensor arithmetic written by hand, every coefficient a ready number.

A floor forms what its solver forms and adds up what it adds up, with the same draws of noise; what a solver takes
beyond it is its coefficients and its Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import sdediff as sd


class Work(NamedTuple):
    """The arithmetic of a step, under an eps network.

    sums: for every call, of how many tensors beside x each new state is the sum, draws included.
    formed: whether an output is formed of x and F, or F is taken as it is. scaled: whether x has a factor.
    """

    sums: tuple[tuple[int, ...], ...]
    formed: bool = True
    scaled: bool = True
    draws: int = 0


WORK = {
    "adams": Work(((2,),)),
    "dpmpp_3m": Work(((3,),)),
    "deis": Work(((3,),), formed=False),
    "lms": Work(((4,),), formed=False),
    "ipndm": Work(((4,),), formed=False),
    "unipc": Work(((3,),)),
    "angle": Work(((3,),)),
    "heun": Work(((1,), (2,)), scaled=False),
    "dpm_solver_2": Work(((1,), (2,)), formed=False),
    "dpm_solver_3": Work(((1,), (2,), (2,)), formed=False),
    "dpmpp_2s": Work(((1,), (2,))),
    "ancestral": Work(((2,),), formed=False, draws=1),
    "euler_ancestral": Work(((1, 1),), formed=False, draws=1),
    "dpmpp_2m_sde": Work(((3,),), draws=1),
    "dpmpp_3m_sde": Work(((4,),), draws=1),
    "sa_solver": Work(((5,),), draws=1),
    "dpmpp_sde": Work(((3,), (4,)), draws=2),
    "seeds": Work(((4,), (5,), (5,)), formed=False, draws=3),
}


def floor(work: Work, call: Callable[..., Any], x: Tensor) -> Callable[[int], Tensor]:
    """A run of n steps of such work around the network `call`."""
    now, rows = torch.ones(len(x)), {}

    def run(n: int) -> Tensor:
        if n not in rows:
            rows[n] = sd.levels(sd.VP(), torch.linspace(1.0, 1e-3, n + 1))
        row, noise, y = rows[n], sd.Counter(0), x
        for i in range(n):
            drawn = [noise(row[i], row[i + 1], x, k) for k in range(work.draws)]
            for sums in work.sums:
                out = call(y, now)
                if work.formed:
                    out = torch.add(out, y, alpha=-0.1)
                for count in sums:
                    new = y * 0.9 if work.scaled else torch.add(y, out, alpha=0.1)
                    terms = [*[out] * (count - len(drawn)), *drawn]
                    for term in terms if work.scaled else terms[1:]:
                        new.add_(term, alpha=0.01)
                    y = new
        return y

    return run
