"""Distances between sample sets against closed forms, their standard errors against the spread of draws."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from sdediff.metrics import (
    DISTANCES,
    Estimate,
    distance,
    energy_distance,
    frechet,
    mmd,
    sliced_wasserstein,
)

QUICK = {
    "sliced_wasserstein": partial(sliced_wasserstein, projections=16),
    "energy": energy_distance,
    "mmd": partial(mmd, bandwidth=1.5),
    "frechet": frechet,
}


def gaussian(rng, n, mean=(0.0, 0.0), sd=1.0):
    return np.asarray(mean) + sd * rng.standard_normal((n, len(mean)))


def within(estimate, exact, bias=0.0):
    """Six standard errors, since a test may fail by chance less than once in a million."""
    return abs(estimate.value - exact) < 6 * estimate.std_error + bias


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def normal_gap(mean, sd):
    """E|Z| of Z ~ N(mean, sd^2)."""
    return sd * math.sqrt(2 / math.pi) * math.exp(-((mean / sd) ** 2) / 2) + mean * math.erf(mean / sd / 2**0.5)


def test_energy_distance_of_two_gaussians_on_a_line(rng):
    x, y = gaussian(rng, 1500, [0.0], 1.0), gaussian(rng, 1200, [0.8], 1.5)
    exact = 2 * normal_gap(0.8, math.hypot(1, 1.5)) - normal_gap(0, 2**0.5) - normal_gap(0, 1.5 * 2**0.5)
    estimate = energy_distance(x, y)
    assert within(estimate, exact)
    assert estimate.std_error < exact / 5


def test_energy_distance_equals_its_sum_over_distinct_pairs(rng):
    x, y = gaussian(rng, 23), gaussian(rng, 31, (1.0, 0.0))

    def gap(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=-1).sum()

    direct = 2 * gap(x, y) / (23 * 31) - gap(x, x) / (23 * 22) - gap(y, y) / (31 * 30)
    assert energy_distance(x, y).value == pytest.approx(direct, rel=1e-6)


def test_mmd_of_two_gaussians(rng):
    x, y = gaussian(rng, 1500, [0.0]), gaussian(rng, 1200, [1.0])
    h = 0.9

    def mean_kernel(gap):
        return h / math.sqrt(h**2 + 2) * math.exp(-(gap**2) / (2 * (h**2 + 2)))

    estimate = mmd(x, y, bandwidth=h)
    assert within(estimate, 2 * mean_kernel(0) - 2 * mean_kernel(1))
    assert estimate.name == "mmd2[rbf 0.9]"


def test_mmd_bandwidth_is_the_median_distance(rng):
    x, y = gaussian(rng, 60), gaussian(rng, 50)
    pool = torch.from_numpy(np.concatenate([x, y]))
    median = float(torch.pdist(pool).median())
    assert mmd(x, y).value == pytest.approx(mmd(x, y, bandwidth=median).value, rel=1e-12)


@pytest.mark.parametrize("dims", [1, 3, 12])
def test_sliced_wasserstein_of_a_shift(rng, dims):
    shift = np.linspace(1.0, 2.0, dims)
    x = gaussian(rng, 100, np.zeros(dims))
    estimate = sliced_wasserstein(x, x + shift, projections=800)
    # (theta . d)^2 has mean |d|^2 / D and standard deviation below sqrt(2) |d|^2 / D over directions.
    exact = shift @ shift / dims
    assert abs(estimate.value**2 - exact) < 6 * math.sqrt(2 / 800) * exact
    if dims == 1:
        assert estimate.value == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "p"), [(40, 40, 2), (40, 57, 2), (33, 50, 1), (30, 41, 3)])
def test_sliced_wasserstein_equals_pots_on_the_same_directions(rng, monkeypatch, n, m, p):
    from sdediff.metrics import transport

    pot = pytest.importorskip("ot", reason="the reference is POT: pip install 'sdediff[metrics]'")
    x, y = gaussian(rng, n), gaussian(rng, m, (1.0, -0.5), 2.0)
    whole = sliced_wasserstein(x, y, projections=30, p=p, seed=5)
    directions = transport.normals(5, np.arange(30), transport._DIRECTIONS, (2,))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert whole.value == pytest.approx(pot.sliced_wasserstein_distance(x, y, projections=directions.T, p=p))
    assert whole.name == f"sliced_w{p}"
    monkeypatch.setattr(transport, "_AT_ONCE", 500)
    pieces = sliced_wasserstein(x, y, projections=30, p=p, seed=5)
    assert pieces.std_error == pytest.approx(whole.std_error, rel=1e-9)


def test_frechet_of_two_gaussians(rng):
    # With commuting covariances the distance is |m1 - m2|^2 + sum (s1 - s2)^2.
    s1, s2, gap = np.array([1.0, 2.0, 0.5]), np.array([1.5, 1.0, 0.5]), np.array([0.5, 0.0, -1.0])
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    x = rng.standard_normal((4000, 3)) * s1 @ turn
    y = (rng.standard_normal((3000, 3)) * s2 + gap) @ turn
    exact = gap @ gap + ((s1 - s2) ** 2).sum()
    for features in ("pixels", "pca64", "pca3"):
        assert within(frechet(x, y, features), exact, bias=0.02)
    assert frechet(x, y).name == "frechet[pca3]"
    assert "fid" not in frechet(x, y).name.lower()


def test_frechet_of_covariances_that_do_not_commute(rng):
    from scipy.linalg import sqrtm

    x = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 4))
    y = rng.standard_normal((400, 4)) @ rng.standard_normal((4, 4)) + 1
    c1, c2 = np.cov(x.T), np.cov(y.T)
    gap = x.mean(0) - y.mean(0)
    direct = gap @ gap + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
    assert frechet(x, y, "pixels").value == pytest.approx(direct, rel=1e-9)


def test_frechet_bias_between_sets_of_one_law(rng):
    size, n, draws = 8, 400, 30
    pairs = ([gaussian(rng, n, np.zeros(size)) for _ in range(2)] for _ in range(draws))
    values = [frechet(x, y, "pixels").value for x, y in pairs]
    stated = (size**2 + 5 * size) / (2 * n)
    error = np.std(values, ddof=1) / math.sqrt(draws)
    assert abs(np.mean(values) - stated) < 6 * error + 0.1 * stated


def test_frechet_takes_the_leading_components_and_named_features(rng):
    scales = np.array([0.1, 5.0, 0.1, 2.0])
    y = torch.from_numpy(rng.standard_normal((300, 1, 2, 2)) * scales.reshape(1, 2, 2))
    x = y.clone()
    x[:, 0, 0, 0] += 50.0
    assert frechet(x, y, "pca2").value < 60 < 2000 < frechet(x, y, "pca4").value

    def first_row(images):
        assert len(images) <= 512
        return images[:, 0, 0]

    assert frechet(x, y, first_row).value == pytest.approx(2500, rel=1e-9)
    assert frechet(x, y, first_row).name == "frechet[first_row]"
    assert frechet(x, y, torch.nn.Flatten().eval()).name == "frechet[Flatten]"


@pytest.mark.parametrize("name", DISTANCES)
def test_a_set_is_at_no_distance_from_itself(rng, name):
    x = gaussian(rng, 200) + 1000.0
    estimate = DISTANCES[name](x, x.copy())
    if name in ("energy", "mmd"):  # unbiased: leaving out the pairs of a sample with itself makes it negative
        assert -0.05 < estimate.value < 0
    else:
        assert 0 <= estimate.value < 1e-9


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_do_not_depend_on_the_origin_or_the_container(rng, name):
    x, y = gaussian(rng, 60), gaussian(rng, 70, (0.5, 0.5))
    plain = QUICK[name](x, y)
    assert QUICK[name](x + 1e4, y + 1e4).value == pytest.approx(plain.value, rel=1e-6)
    shaped = QUICK[name](torch.from_numpy(x).reshape(60, 1, 2), torch.from_numpy(y).reshape(70, 1, 2))
    assert (shaped.value, shaped.std_error) == pytest.approx((plain.value, plain.std_error), rel=1e-12)
    assert QUICK[name](x, y) == plain


def ascending(v):
    return v[np.argsort(v[:, 0])]


def cycling(v):
    """Ten classes in turn, each with its own range of values."""
    return ascending(v).reshape(10, -1, v.shape[1]).swapaxes(0, 1).reshape(v.shape)


@pytest.mark.parametrize("order", [ascending, cycling])
def test_the_order_of_a_set_does_not_change_its_error(rng, order):
    x, y = order(gaussian(rng, 400)), order(gaussian(rng, 400, (1.0, 0.0)))
    ordered = [energy_distance(x, y).std_error, energy_distance(x, rng.permutation(y)).std_error]
    mixed = energy_distance(rng.permutation(x), rng.permutation(y)).std_error
    assert all(1 / 2.5 < e / mixed < 2.5 for e in ordered)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((30, 2)), np.zeros((30, 3)), r"shapes \(2,\) and \(3,\)"),
        (np.zeros((19, 2)), np.zeros((30, 2)), r"x has shape \(19, 2\).*at least 20"),
        (np.zeros((30, 2)), np.zeros((0, 2)), r"y has shape \(0, 2\)"),
        (np.zeros((30, 0)), np.zeros((30, 0)), r"x has shape \(30, 0\)"),
        (np.zeros((30, 2)), np.full((30, 2), np.nan), "y: row 0 holds NaN or Inf"),
    ],
)
@pytest.mark.parametrize("name", DISTANCES)
def test_sets_that_cannot_be_compared_are_refused(name, x, y, message):
    with pytest.raises(ValueError, match=message):
        DISTANCES[name](x, y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: sliced_wasserstein(x, x, projections=0), "projections=0"),
        (lambda x: sliced_wasserstein(x, x, p=0.5), "p=0.5"),
        (lambda x: mmd(x, x, bandwidth=-1.0), "bandwidth=-1.0"),
        (lambda x: mmd(np.ones((30, 2)), np.ones((30, 2))), "bandwidth=0.0: give a finite bandwidth > 0"),
        (lambda x: frechet(x, x, "inception"), "features='inception'.*'pca64'"),
        (lambda x: frechet(x, x, torch.nn.Dropout()), r"train mode.*features\.eval\(\)"),
        (lambda x: frechet(np.repeat(x, 40, 1), np.repeat(x, 40, 1), "pixels"), "needs 90 samples.*'pca3'"),
    ],
)
def test_wrong_arguments_are_refused(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(gaussian(rng, 30))


def test_distances_have_names():
    assert distance("energy") is energy_distance
    with pytest.raises(ValueError, match=r"unknown distance 'enrgy'.*energy"):
        distance("enrgy")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(0.01234, 0.00041, "0.01234 +- 0.00041"), (1234.5, 56.7, "1234 +- 57"), (2.0, 0.0, "2 +- 0")],
)
def test_an_estimate_prints_the_digits_that_it_knows(value, error, text):
    assert str(Estimate(value, error, "energy")) == text


def test_an_estimate_shows_bounds_that_are_not_symmetric():
    assert str(Estimate(0.0512, 0.013, "energy", (0.0321, 0.0874))) == "0.051 +- 0.013 (95 %: 0.032 to 0.087)"
