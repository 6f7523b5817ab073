"""Runs begin where there is something to gain: no steps where nothing happens, no tiny alpha for solvers in eps."""

from __future__ import annotations

import math
import re
import warnings

import pytest
import torch

import sdediff as sd

F64 = torch.float64
COSINE = sd.Table.from_betas(sd.Cosine().betas(1000))
ZERO_SNR = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64), zero_terminal_snr=True)
LONG = sd.VP(T=100.0)


class PlainLong(sd.LinearSDE):
    """VP's formulas over a time a hundred times as long as it needs, as a user writes them."""

    T = 100.0

    def alpha(self, t):
        return torch.exp(-0.25 * t**2)

    def sigma(self, t):
        return torch.sqrt(-torch.expm1(-0.5 * t**2))


ON_GRIDS = [n for n, s in sd.list_solvers().items() if not s.adaptive and not s.corrector and n not in ("sde",)]
# Langevin's own law needs many small steps; Euler's in the SDE's time is rough at ten.
ROUGH = ("annealed_langevin", "euler_maruyama", "reverse_diffusion", "ddpm", "predictor_corrector")


def _radius(sde: sd.LinearSDE, name: str, steps: int, **options: str) -> float:
    """The median radius of samples of the ring, 1.414 in truth."""
    x = sd.sample(sd.target("ring").model(sde), (256, 2), solver=name, steps=steps, dtype=F64, seed=1, **options)
    return x.norm(dim=1).median().item()


@pytest.mark.parametrize("table", [COSINE, ZERO_SNR], ids=["cosine", "zero_snr"])
@pytest.mark.parametrize("name", [name for name in ON_GRIDS if name not in ROUGH])
def test_ten_steps_on_a_table_that_ends_near_zero_alpha(name: str, table: sd.Table) -> None:
    """pndm gave a radius of 373,656 here: it began at alpha = 5e-5 and extrapolated eps over the first step."""
    assert abs(_radius(table, name, 10) / math.sqrt(2) - 1) < 0.25


@pytest.mark.parametrize("steps", [3, 5, 7, 10])
@pytest.mark.parametrize(
    "sde", [COSINE, ZERO_SNR, sd.VP(), sd.Cosine(), sd.RectifiedFlow()], ids=lambda v: type(v).__name__
)
@pytest.mark.parametrize("name", ["pndm", "plms", "seeds"])
def test_steps_that_a_solver_does_not_bear_are_warned_of_with_what_to_write(name, sde, steps):
    """At five steps pndm gave a radius of 62 on the cosine table and seeds one of 1,980, without a word."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = _radius(sde, name, steps)
    if not caught:
        assert abs(found / math.sqrt(2) - 1) < 0.35
        return
    assert [warning.category for warning in caught] == [sd.StepsWarning]
    pattern = r"is not (?:stable|accurate) .*: write grid='log_snr' and steps=(\d+), or"
    count = int(re.search(pattern, str(caught[0].message))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert abs(_radius(sde, name, count, grid="log_snr") / math.sqrt(2) - 1) < 0.15


def test_the_worst_cases_are_warned_of_and_good_runs_are_not():
    for name, table, steps in (("pndm", COSINE, 5), ("seeds", COSINE, 5), ("seeds", sd.VP(), 5)):
        with pytest.warns(sd.StepsWarning, match="times as long as its errors bear"):
            assert not 1 < _radius(table, name, steps) < 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("pndm", "seeds", "dpmpp_2m", "ddim"):
            sd.sample(sd.target("ring").model(COSINE), (2, 2), solver=name, steps=10)


def test_the_start_is_the_last_knot_that_serves() -> None:
    assert COSINE.last_start(-5.3) == 996.0
    assert COSINE.lam(996.0).item() >= -5.3 > COSINE.lam(997.0).item()
    assert COSINE.t_max == 1000.0  # solvers in x0 begin at the end
    assert sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000)).last_start(-7.0) == 1000.0
    assert [sde.t_max for sde in (sd.VP(), sd.SubVP(), sd.VE(), sd.EDM())] == [1.0, 1.0, 1.0, 80.0]
    assert [sde.t_max for sde in (sd.RectifiedFlow(), sd.Cosine())] == [0.999, 0.999]


@pytest.mark.parametrize("sde", [LONG, PlainLong()], ids=["VP", "plain"])
@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc", "ddim", "heun", "angle", "euler", "deis", "dpm_solver_3"])
def test_no_step_is_spent_where_nothing_happens(name: str, sde: sd.LinearSDE) -> None:
    """A process that is noise for most of its time: the log-SNR grid ended with a radius of .48, Euler's with .03."""
    assert abs(_radius(sde, name, 20) / math.sqrt(2) - 1) < 0.1
    start = sd.Sampler(sd.target("ring").model(sde), solver=name, steps=20).plan().times[0]
    # Solvers in eps, and those that a rise of alpha would hurt alike, begin a little later.
    assert math.exp(-10) * (1 - 1e-6) < sde.alpha(start).item() < math.exp(-5.2)
