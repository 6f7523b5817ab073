"""Weights of all steps of a run, computed together, beside integrals that are computed one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.integrate import quad

import sdediff as sd
from sdediff.solvers.weights import BASES, VARIABLES, Rule, Weights

SCALE, ETA = 0.7, 0.6
PLACES: dict[str, Callable[[float], float]] = {
    "lam": lambda lam: lam,
    "sigma": lambda lam: math.exp(-lam),
    "rho": lambda lam: math.exp(-lam) ** (1 / 7),
    "angle": lambda lam: math.atan2(math.exp(-lam), SCALE),
    "t": lambda lam: sd.VP().t_of_lam(lam).item(),
}


def _er(kappa: float) -> float:
    """ER-SDE's noise scaler, Cui et al. 2023."""
    return kappa * (math.exp(kappa**0.3) + 10)


def _er_slope(kappa: float) -> float:
    return math.exp(kappa**0.3) * (1 + 0.3 * kappa**0.3) + 10


def _kernel(basis: str, s: sd.Level) -> Callable[[float], float]:
    """What P is multiplied with under the integral over lam, from the equation of each basis."""

    def shrinking(lam: float, scaler: Callable[[float], float], slope: Callable[[float], float]) -> float:
        # x/alpha shrinks by h(kappa_s)/h(kappa) and gains x0 -d log h, with kappa = e^-lam, dkappa = -kappa dlam.
        kappa = math.exp(-lam)
        return s.alpha * scaler(s.sigma / s.alpha) / scaler(kappa) * slope(kappa) / scaler(kappa) * kappa

    def turning(lam: float) -> float:
        # d(x/w)/dphi = F, tan(phi) = kappa/c.
        kappa = math.exp(-lam)
        return math.hypot(s.alpha * SCALE, s.sigma) * -kappa * SCALE / (SCALE**2 + kappa**2)

    p = 1 + ETA**2
    kernels: dict[str, Callable[[float], float]] = {
        "eps": lambda lam: -s.alpha * math.exp(-lam),  # d(x/alpha) = eps dkappa
        "x0": lambda lam: shrinking(lam, lambda k: k**p, lambda k: p * k ** (p - 1)),
        "er": lambda lam: shrinking(lam, _er, _er_slope),
        "F": turning,
    }
    return kernels[basis]


def _weight(basis: str, variable: str, t: sd.Level, s: sd.Level, outputs: Sequence[sd.Level], j: int) -> float:
    """The integral of the kernel times Lagrange's polynomial that is 1 at outputs[j] and 0 at the others."""
    place, kernel = PLACES[variable], _kernel(basis, s)
    at = [place(level.lam) for level in outputs]

    def integrand(lam: float) -> float:
        u = place(lam)
        return kernel(lam) * math.prod((u - v) / (at[j] - v) for i, v in enumerate(at) if i != j)

    return quad(integrand, t.lam, s.lam, epsabs=1e-14, epsrel=1e-12, limit=200)[0]


@pytest.mark.parametrize("variable", PLACES)
@pytest.mark.parametrize("basis", BASES)
def test_weights_of_a_run_are_the_integrals_of_its_steps(basis: str, variable: str) -> None:
    sde = sd.VP()
    levels = sd.levels(sde, sd.grid("log_snr", sde, 7))
    parameter = {"F": SCALE, "x0": ETA**2}.get(basis, 0.0)
    rule = Rule(basis, variable, SCALE, time_at=sde.times_at if variable == "t" else None)
    weights = Weights(levels, rule, np.array([[parameter]]))
    # A predictor's outputs end at the start of the step, a corrector's at its end.
    cases = [(i, 0, min(i + 1, points)) for points in (1, 2, 3, 4) for i in range(7)]
    cases += [(i, 1, min(i + 2, points)) for points in (2, 3, 4, 5) for i in range(7)]
    together = weights.of(*np.array(sorted(set(cases))).T)[..., 0]
    for (start, newest, count), row in zip(sorted(set(cases)), together, strict=True):
        t, s, outputs = levels[start], levels[start + 1], levels[start + newest :: -1][:count]
        alone = [_weight(basis, variable, t, s, outputs, j) for j in range(count)]
        size = max(map(abs, alone))
        assert np.abs(row[:count] - alone).max() < 1e-10 * size, (start, newest, count)
        assert not row[count:].any()


def test_every_variable_is_tested() -> None:
    assert set(PLACES) == {*VARIABLES, "t"}
