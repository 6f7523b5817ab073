"""The distributions of the counter's normals and uniforms.

Statistical tests have a fixed seed. A z-score of 5.4 is passed by chance less than once in 10^7 (two-sided
6.7e-8), a KS p-value below 1e-8 likewise; no test makes more than 15 such comparisons.
"""

import math

import numpy as np
import pytest
from scipy import stats

from sdediff.noise import counter
from sdediff.noise.counter import normals, uniforms
from tests.noise.draws import correlation_z

Z, ALPHA = 5.4, 1e-8


@pytest.fixture(scope="module")
def many():
    """A million of the counter's normals, (1000 samples, 1000 numbers)."""
    return normals(1, np.arange(1000), (0, 0), (1000,))


def test_moments_of_the_normals(many):
    z, n = many.ravel(), many.size
    # Standard errors of mean, variance, third and fourth moment of n unit normals.
    moments = [(z.mean(), 0, 1), ((z**2).mean(), 1, 2), ((z**3).mean(), 0, 15), ((z**4).mean(), 3, 96)]
    for found, expected, variance in moments:
        assert abs(found - expected) < Z * math.sqrt(variance / n)


def test_normals_pass_kolmogorov_smirnov(many):
    assert stats.kstest(many.ravel(), "norm").pvalue > ALPHA
    assert stats.kstest(many[:, 0], "norm").pvalue > ALPHA
    assert stats.kstest(many[0], "norm").pvalue > ALPHA


def test_the_normals_tail_has_its_weight(many):
    # Counts beyond 3 and 4 are binomial; a transform with coarse uniforms loses them.
    for edge in (3.0, 4.0):
        p = 2 * stats.norm.sf(edge)
        count = (np.abs(many) > edge).sum()
        assert stats.binomtest(int(count), many.size, p).pvalue > ALPHA


@pytest.mark.parametrize("word", [0, 1, 0xFFFFFFFF])
def test_the_extreme_words_give_finite_normals(monkeypatch, word):
    monkeypatch.setattr(counter, "philox", lambda words, key: np.full((4, 1, 1), word, dtype=np.uint64))
    z = normals(0, np.arange(1), (0, 0), (4,))
    assert np.isfinite(z).all()
    assert np.abs(z).max() < 6.77


def test_positions_samples_levels_draws_and_seeds_are_independent(many):
    # Correlation of the values and of their squares (a shared radius would show there).
    index, shape = np.arange(1000), (1000,)
    others = [
        normals(1, index, (1, 0), shape),
        normals(1, index, (0, 1), shape),
        normals(2, index, (0, 0), shape),
        normals(1 + 2**32, index, (0, 0), shape),
        many[::-1],
    ]
    pairs = [(many, other) for other in others[:-1]] + [(many[:500], many[500:])]
    pairs += [(many[:, :-lag], many[:, lag:]) for lag in (1, 2, 3, 4)]
    for a, b in pairs:
        assert abs(correlation_z(a, b)) < Z
        assert abs(correlation_z(a**2, b**2)) < Z


def test_uniforms():
    u = uniforms(1, np.arange(500), (0, 0), (400,))
    assert 0 <= u.min()
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < Z / math.sqrt(12 * u.size)
    assert stats.kstest(u.ravel(), "uniform").pvalue > ALPHA
    assert abs(correlation_z(u, uniforms(1, np.arange(500), (0, 1), (400,)))) < Z
    assert abs(correlation_z(u, normals(1, np.arange(500), (0, 0), (400,)))) < Z
    assert np.array_equal(uniforms(1, np.array([7, 3]), (0, 0), (400,)), u[[7, 3]])
    # 53 bits: neighbours on the grid of 2^-53 are reached, not 32-bit steps alone.
    assert len(np.unique(np.round(u.ravel() * 2**53) % 2**20)) > 100_000


def test_uniforms_of_many_streams_never_repeat():
    streams = [(0, 0), (0, 1), (1, 0), (0x50000000, 0), (0x50000000, 1), (0x50000000, 65535), (0xFFFFFFFD, 0)]
    drawn = [uniforms(1, np.arange(2), stream, (4,)) for stream in streams]
    for i in range(len(drawn)):
        for j in range(i):
            assert not (drawn[i] == drawn[j]).any(), f"streams {streams[i]} and {streams[j]} are one"
