"""The inverse of a falling function, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from sdediff._utils.roots import falling_root

Function = Callable[[np.ndarray], np.ndarray]


class Counted:
    """A function that counts its evaluations."""

    def __init__(self, function: Function) -> None:
        self.function, self.calls = function, 0

    def __call__(self, t: np.ndarray) -> np.ndarray:
        self.calls += 1
        return self.function(t)


def _flow(t: np.ndarray) -> np.ndarray:
    return np.log1p(-t) - np.log(t)


def _flow_inverse(lam: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(lam))


def _vp(t: np.ndarray) -> np.ndarray:
    # exp(-2 lam) = expm1(B), B = 0.1 t + 9.95 t^2.
    return -0.5 * np.log(np.expm1(0.1 * t + 9.95 * t**2))


def _vp_inverse(lam: np.ndarray) -> np.ndarray:
    total = np.log1p(np.exp(-2 * lam))
    return 2 * total / (0.1 + np.sqrt(0.1**2 + 4 * 9.95 * total))


RATE = math.log(50 / 0.01)


def _ve(t: np.ndarray) -> np.ndarray:
    return -math.log(0.01) - RATE * t


def _ve_inverse(lam: np.ndarray) -> np.ndarray:
    return -(lam + math.log(0.01)) / RATE


def _edm(t: np.ndarray) -> np.ndarray:
    return -np.log(t)


def _edm_inverse(lam: np.ndarray) -> np.ndarray:
    return np.exp(-lam)


def _cosine(t: np.ndarray) -> np.ndarray:
    return -np.log(np.tan(t * math.pi / 2))


def _cosine_inverse(lam: np.ndarray) -> np.ndarray:
    return 2 / math.pi * np.arctan(np.exp(-lam))


SMOOTH = {
    "flow": (_flow, _flow_inverse, 1.0, (-14.0, 14.0)),
    "vp": (_vp, _vp_inverse, 1.0, (-5.0, 6.0)),
    "ve": (_ve, _ve_inverse, 1.0, (-3.9, 4.6)),
    "edm": (_edm, _edm_inverse, 80.0, (-4.38, 6.2)),
    "cosine": (_cosine, _cosine_inverse, 1.0, (-12.0, 12.0)),
}


def _with_slopes(function: Function, t: np.ndarray) -> np.ndarray:
    """By how much t may be off, relative, for the rounding of function(t) alone: eps |lam| / (t |slope|)."""
    delta = 1e-6 * t
    slope = np.abs(function(t + delta) - function(t - delta)) / (2 * delta)
    return np.finfo(float).eps * np.maximum(1, np.abs(function(t))) / (slope * t)


@pytest.mark.parametrize("name", SMOOTH)
def test_closed_forms_are_met_to_the_rounding_of_the_function(name: str) -> None:
    function, inverse, end, span = SMOOTH[name]
    lam = np.linspace(*span, 101)
    expected = inverse(lam)
    assert ((expected > 0) & (expected < end)).all()
    found = falling_root(function, lam, end)
    error = np.abs(found / expected - 1)
    assert (error <= 1e-14 + 4 * _with_slopes(function, np.minimum(expected, end * (1 - 2e-6)))).all(), error.max()


@pytest.mark.parametrize("name", ["flow", "vp", "edm", "cosine"])
def test_closed_forms_are_met_to_fourteen_digits_where_the_function_has_them(name: str) -> None:
    function, inverse, end, _ = SMOOTH[name]
    lam = np.linspace(-1.0, 3.0, 57)
    np.testing.assert_allclose(falling_root(function, lam, end), inverse(lam), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("count", [1, 50])
def test_a_smooth_function_is_evaluated_twice(name: str, count: int) -> None:
    function, _, end, span = SMOOTH[name]
    counted = Counted(function)
    falling_root(counted, np.linspace(*span, count + 2)[1:-1], end)
    assert counted.calls == 2


@pytest.mark.parametrize("name", SMOOTH)
def test_two_interpolations_that_agree_spare_the_second_evaluation(name: str) -> None:
    function, inverse, end, span = SMOOTH[name]
    counted, lam = Counted(function), np.linspace(*span, 52)[1:-1]
    found = falling_root(counted, lam, end, exact=False)
    assert counted.calls == 1
    np.testing.assert_allclose(found, inverse(lam), rtol=2e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_targets_beyond_the_ends_give_the_ends(name: str) -> None:
    function, _, end, _ = SMOOTH[name]
    found = falling_root(function, np.array([500.0, -500.0, math.inf, -math.inf]), end)
    assert found[[1, 3]].tolist() == [end, end]
    assert (found[[0, 2]] <= 1e-15 * end).all()
    assert found[2] == 0.0


def test_the_values_at_the_ends_give_the_ends() -> None:
    assert falling_root(_ve, np.array([_ve(np.array(0.0)), _ve(np.array(1.0))]), 1.0).tolist() == [0.0, 1.0]


def _kinked(t: np.ndarray) -> np.ndarray:
    """Piecewise linear with slopes -1, -20, -0.1 and kinks at 0.3 and 0.4."""
    return 5 - np.interp(t, [0, 0.3, 0.4, 1.0], [0, 0.3, 2.3, 2.36])


def test_kinks_do_not_mislead_it() -> None:
    t = np.concatenate([np.linspace(0.01, 0.99, 99), [0.3, 0.4, 0.3 + 1e-12, 0.4 - 1e-12]])
    np.testing.assert_allclose(falling_root(_kinked, _kinked(t), 1.0), t, rtol=1e-13)
    np.testing.assert_allclose(falling_root(_kinked, _kinked(t), 1.0, exact=False), t, rtol=1e-13)


def _flat(t: np.ndarray) -> np.ndarray:
    """Falls between 0.2 and 0.8, constant outside, as a table beyond its knots."""
    return 1 - np.clip((t - 0.2) / 0.6, 0, 1)


def test_flat_ends_are_left_alone() -> None:
    lam = np.array([0.9, 0.5, 0.1, 2.0, -2.0])
    np.testing.assert_allclose(falling_root(_flat, lam, 1.0)[:3], 0.2 + 0.6 * (1 - lam[:3]), rtol=1e-14)
    first, last = falling_root(_flat, np.array([1.0, 0.0]), 1.0)
    assert _flat(first) == 1.0
    assert _flat(last) == 0.0
    assert falling_root(_flat, lam, 1.0)[3:].tolist() == [0.0, 1.0]


def test_a_steep_cliff_is_found_by_bisection() -> None:
    def cliff(t: np.ndarray) -> np.ndarray:
        return -np.tanh((t - 0.37) * 1e6) - 1e-3 * t

    found = falling_root(cliff, np.array([-1e-3 * 0.37, 0.5, -0.5]), 1.0)
    np.testing.assert_allclose(found[0], 0.37, rtol=1e-12)
    np.testing.assert_allclose(cliff(found[1:]), [0.5, -0.5], atol=1e-8)


def test_infinite_values_at_the_ends_are_no_obstacle() -> None:
    with np.errstate(divide="ignore"):
        assert np.isinf(_flow(np.array([0.0, 1.0]))).all()
    found = falling_root(_flow, np.array([30.0, 0.0, -30.0]), 1.0)
    np.testing.assert_allclose(found, _flow_inverse(np.array([30.0, 0.0, -30.0])), rtol=1e-13)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
def test_the_shape_of_the_values_is_kept(shape: tuple[int, ...]) -> None:
    lam = np.full(shape, 0.4)
    found = falling_root(_vp, lam, 1.0)
    assert found.shape == shape
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, _vp_inverse(lam), rtol=1e-14)


def test_each_value_is_solved_alone() -> None:
    """What stands beside a value does not change its last digits much, nor how far it gets."""
    lam = np.array([-4.9, -1.0, 0.0, 2.0, 6.0, 80.0, -80.0])
    together = falling_root(_vp, lam, 1.0)
    alone = np.array([falling_root(_vp, lam[i], 1.0) for i in range(len(lam))])
    np.testing.assert_allclose(together, alone, rtol=1e-15)


def test_no_warning_of_numpy_leaves_it() -> None:
    with np.errstate(all="raise"):
        assert falling_root(lambda t: -t, np.array([-0.25]), 1.0)[0] == pytest.approx(0.25, rel=1e-15)
