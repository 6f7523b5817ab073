"""Arguments that make no process."""

import math

import pytest

import sdediff as sd


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sd.Table.from_betas([0.1, 0.0]), r"betas must lie in \(0, 1\]"),
        (lambda: sd.Table.from_betas([0.1, 1.2]), r"betas must lie in \(0, 1\]"),
        (lambda: sd.Table.from_betas([0.1]), "at least two knots"),
        (lambda: sd.Table.from_betas([0.1, 1.0, 0.1]), "at least two knots whose noise rises"),
        (lambda: sd.Table.from_betas([0.1, math.nan]), "betas|knots"),
        (lambda: sd.Table.from_alpha_bars([0.1, 0.9]), "noise rises strictly"),
        (lambda: sd.Table.from_alpha_bars([1.0, 0.5]), "alpha_bars must lie in"),
        (lambda: sd.Table.from_alpha_bars([0.5, -0.1]), "alpha_bars must lie in"),
        (lambda: sd.Table.from_sigmas([1.0, 0.1]), "takes ascending sigmas: flip the list"),
        (lambda: sd.Table.from_sigmas([0.0, 0.1]), "sigmas must be positive"),
        (lambda: sd.Table.from_sigmas([0.1, math.nan]), "sigmas|knots"),
        (lambda: sd.VE(sigma_min=50.0, sigma_max=0.01), "sigma_min"),
        (lambda: sd.VE(sigma_min=0.0), "sigma_min"),
        (lambda: sd.VP(beta_min=-1.0), "beta_min"),
        (lambda: sd.VP(T=0.0), "T="),
    ],
)
def test_arguments_that_make_no_process_are_refused(make, message):
    with pytest.raises(sd.SDEError, match=message):
        make()
