"""Precision, recall, density and coverage against cases that are counted by hand and against their expectations."""

import numpy as np
import pytest

from sdediff.metrics import coverage, density, precision, recall


@pytest.fixture
def rng():
    return np.random.default_rng(9)


def on_a_line(*values):
    return np.array(values, dtype=float)[:, None]


def test_counts_on_a_line():
    """y = 0 ... 29: the ball of a row to its 2nd neighbour has radius 1 inside, 2 at the ends."""
    y = on_a_line(*range(30))
    x = on_a_line(*(np.arange(20) + 0.25), *([40.0] * 10))
    options = {"features": "pixels", "k": 2}
    assert precision(x, y, **options).value == pytest.approx(20 / 30)
    # At 0.25 lie the balls of 0, 1 and 2 (radius 2 at the end, 1 inside): 0 and 1; at 1.25 also the end's.
    inside = [sum(abs(v - c) <= (2 if c in (0, 29) else 1) for c in range(30)) for v in x[:, 0]]
    assert density(x, y, **options).value == pytest.approx(sum(inside) / 2 / 30)
    reached = [any(abs(v - c) <= (2 if c in (0, 29) else 1) for v in x[:, 0]) for c in range(30)]
    assert coverage(x, y, **options).value == pytest.approx(sum(reached) / 30)


def test_recall_is_precision_with_the_sets_turned(rng):
    x, y = rng.standard_normal((60, 3)), 0.5 * rng.standard_normal((80, 3))
    assert recall(x, y, features="pixels").value == precision(y, x, features="pixels").value
    assert recall(x, y, features="pixels").std_error == pytest.approx(precision(y, x, features="pixels").std_error)


def test_a_direct_count(rng):
    x, y = rng.standard_normal((40, 2)), rng.standard_normal((50, 2)) + 0.7
    gaps = np.linalg.norm(y[:, None] - y[None], axis=-1)
    radii = np.sort(gaps, axis=1)[:, 3]
    near = np.linalg.norm(x[:, None] - y[None], axis=-1) <= radii
    assert precision(x, y, "pixels").value == pytest.approx(near.any(1).mean())
    radii = np.sort(gaps, axis=1)[:, 5]
    near = np.linalg.norm(x[:, None] - y[None], axis=-1) <= radii
    assert density(x, y, "pixels").value == pytest.approx(near.sum() / 5 / 40)
    assert coverage(x, y, "pixels").value == pytest.approx(near.any(0).mean())


def test_expectations_for_one_law(rng):
    """Naeem et al. 2020, lemma 2: E coverage = 1 - prod (N - i)/(2N - i), i = 1..k; E density = 1."""
    n, k, draws = 60, 5, 60
    pairs = [(rng.standard_normal((n, 2)), rng.standard_normal((n, 2))) for _ in range(draws)]
    found = [[f(x, y, "pixels", k).value for f in (coverage, density)] for x, y in pairs]
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / draws**0.5
    exact = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    assert abs(means[0] - exact) < 5 * errors[0]
    assert abs(means[1] - 1) < 5 * errors[1]


def test_modes_that_are_missing_and_invented(rng):
    two = np.concatenate([rng.standard_normal((60, 2)), rng.standard_normal((60, 2)) + 20])
    one = rng.standard_normal((120, 2))
    assert recall(one, two, "pixels").value < 0.6 < 0.9 < precision(one, two, "pixels").value
    assert precision(two, one, "pixels").value < 0.6 < 0.9 < recall(two, one, "pixels").value
    assert coverage(one, two, "pixels").value < 0.6
    # One outlier widens a ball of precision, and counts one ball of density.
    outlier = np.concatenate([one, [[200.0, 0.0]]])
    far = rng.standard_normal((60, 2)) + 15
    assert density(far, outlier, "pixels").value < 0.2 + precision(far, outlier, "pixels").value / 5


def test_names_and_refusals(rng):
    x, y = rng.standard_normal((30, 2)), rng.standard_normal((30, 2))
    assert precision(x, y).name == "precision[pca2, k=3]"
    assert coverage(x, y, "pixels", 4).name == "coverage[pixels, k=4]"
    with pytest.raises(ValueError, match="k=26 of 30 centres: give at most 14"):
        density(x, y, k=26)
    with pytest.raises(ValueError, match="k=0: at least 1"):
        recall(x, y, k=0)
