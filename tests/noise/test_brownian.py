"""The Brownian path: increments, areas, and solvers that share it.

Statistical tests have a fixed seed. A z-score of 5.4 is passed by chance less than once in 10^7 (two-sided
6.7e-8), a KS p-value below 1e-8 likewise; no test makes more than 15 such comparisons.
"""

import dataclasses
import itertools
import math

import pytest
import torch
from scipy import stats

import sdediff as sd
from sdediff.noise.brownian import Brownian
from sdediff.noise.counter import Counter
from tests.noise.draws import at, correlation_z, empty

Z, ALPHA = 5.4, 1e-8


def area_integral(w, area, h):
    """int over the interval of W_r - W_start, from the increment and the space-time area."""
    return h * (area + w / 2)


def test_increments_add_up_and_areas_obey_chens_relation():
    path, like = Brownian(seed=3, span=2.0), empty(5, 4)
    for a, b, c in [(0.0, 0.3, 2.0), (0.3, 0.31, 1.7), (0.3, 1.0, 1.7), (0.31, 1.7, 2.0)]:
        (w1, h1), (w2, h2), (w, h) = (path.increment(*ends, like) for ends in ((a, b), (b, c), (a, c)))
        torch.testing.assert_close(w1 + w2, w, rtol=0, atol=1e-12)
        joined = area_integral(w1, h1, b - a) + area_integral(w2, h2, c - b) + (c - b) * w1
        # Ticks of 2^-26 of the span: times move by up to 1.5e-8, what they multiply is of order 1.
        torch.testing.assert_close(area_integral(w, h, c - a), joined, rtol=0, atol=2e-7)


def test_chens_relation_is_exact_at_dyadic_times():
    path, like = Brownian(seed=4), empty(50, 2)
    for a, b, c in [(0.0, 0.5, 1.0), (0.125, 0.375, 0.4375), (0.5, 0.75, 0.875)]:
        (w1, h1), (w2, h2), (w, h) = (path.increment(*ends, like) for ends in ((a, b), (b, c), (a, c)))
        joined = area_integral(w1, h1, b - a) + area_integral(w2, h2, c - b) + (c - b) * w1
        torch.testing.assert_close(area_integral(w, h, c - a), joined, rtol=0, atol=1e-13)


def test_the_area_is_the_paths_own_integral():
    # A fine left-and-right rule over increments alone, which never reads an area: error of order 1/n.
    path, like, n = Brownian(seed=5), empty(30, 2), 256
    a, b = 0.25, 0.75
    w = torch.cumsum(
        torch.stack([path.increment(a + (b - a) * i / n, a + (b - a) * (i + 1) / n, like)[0] for i in range(n)]), 0
    )
    trapezoid = (w.sum(0) - w[-1] / 2) * (b - a) / n
    total, area = path.increment(a, b, like)
    # What the rule misses is the sum of the parts' areas, n of them: N(0, n dt^3 / 12).
    error = (trapezoid - area_integral(total, area, b - a)) / math.sqrt(n * ((b - a) / n) ** 3 / 12)
    assert error.abs().max() < 6
    assert 17 < error.square().sum() < 143  # chi squared, 60 degrees of freedom: 1e-8 either way


def test_twice_the_steps_follow_the_same_path():
    sde = sd.VP()
    path, like = Brownian(seed=6, index=[4, 9], span=sde.T), empty(2, 3)
    for kind in ("uniform", "quadratic"):
        coarse, fine = (sd.levels(sde, sd.grid(kind, sde, n)) for n in (5, 10))
        for i, (t, s) in enumerate(itertools.pairwise(coarse)):
            middle = fine[2 * i + 1]
            parts = sum(path(a, b, like) * math.sqrt(a.time - b.time) for a, b in ((fine[2 * i], middle), (middle, s)))
            torch.testing.assert_close(path(t, s, like) * math.sqrt(t.time - s.time), parts, rtol=0, atol=1e-6)


# Not dyadic, and each inside, beside or across the middle of the path.
INTERVALS = [(0.1, 0.3), (0.3, 0.7), (0.7, 0.701), (0.999, 1.0)]


@pytest.fixture(scope="module")
def paths():
    """(W, H) of 80,000 paths over each of INTERVALS."""
    path = Brownian(seed=8)
    return {ends: [v.numpy().ravel() for v in path.increment(*ends, empty(10_000, 8))] for ends in INTERVALS}


@pytest.mark.parametrize("ends", INTERVALS)
def test_increment_and_area_are_normal_with_variances_h_and_a_twelfth(paths, ends):
    h = ends[1] - ends[0]
    w, area = (v / s for v, s in zip(paths[ends], (math.sqrt(h), math.sqrt(h / 12)), strict=True))
    for v in (w, area):
        n = len(v)
        assert abs(v.mean()) < Z / math.sqrt(n)
        assert abs((v**2).mean() - 1) < Z * math.sqrt(2 / n)
        assert stats.kstest(v, "norm").pvalue > ALPHA
    assert abs(correlation_z(w, area)) < Z


def test_disjoint_intervals_are_independent(paths):
    values = [v for ends in INTERVALS for v in paths[ends]]
    for i in range(len(values)):
        for j in range(i):
            assert abs(correlation_z(values[i], values[j])) < Z


def test_a_step_reads_increment_and_area_as_unit_normals():
    path, like = Brownian(seed=2, span=3.0), empty(4, 2)
    w, area = path.increment(1.0, 1.5, like)
    t, s = at(0, 1.5), at(1, 1.0)
    torch.testing.assert_close(path(t, s, like), w / math.sqrt(0.5), rtol=0, atol=1e-7)
    torch.testing.assert_close(path(t, s, like, 1), area * math.sqrt(12 / 0.5), rtol=0, atol=1e-6)


def test_no_interval_and_other_draws_fall_back_to_the_counter():
    path, count, like = Brownian(seed=2), Counter(seed=2), empty(4, 2)
    t, s = at(3, 0.5), at(4, 0.25)
    assert torch.equal(path(t, t, like), count(t, t, like))
    assert torch.equal(path(t, s, like, 2), count(t, s, like, 2))
    assert not torch.equal(path(t, s, like), count(t, s, like))
    assert [v.abs().max().item() for v in path.increment(0.5, 0.5, like)] == [0.0, 0.0]


def test_a_corrector_alone_draws_from_the_counter():
    # It stays where it is, so no piece of the path is its own.
    model = sd.ScoreModel(lambda x, t: torch.tanh(x), sd.VP())
    for solver in ("langevin", "annealed_langevin"):
        x = torch.ones(2, 3)
        one, two = (sd.sample(model, x=x, solver=solver, steps=4, noise=kind) for kind in ("counter", "brownian"))
        assert torch.equal(one, two)


@pytest.mark.parametrize("first", ["corrector", "predictor"])
def test_a_corrector_takes_no_path_from_its_mover(first):
    # With a corrector of no weight, predictor-corrector on a path is the predictor on that path.
    model = sd.ScoreModel(lambda x, t: torch.tanh(x), sd.VP())
    still = sd.solver("langevin", snr=1e-12)
    options = {"steps": 6, "noise": "brownian", "dtype": torch.float64, "grid": "uniform"}
    both = sd.solver("predictor_corrector", predictor="euler_maruyama", corrector=still, first=first)
    alone = sd.sample(model, (2, 3), solver="euler_maruyama", **options)
    torch.testing.assert_close(sd.sample(model, (2, 3), solver=both, **options), alone, rtol=1e-8, atol=1e-8)


@dataclasses.dataclass(frozen=True)
class Asked(Counter):
    """The counter, with a list of the draws that were asked of it."""

    asked: list = dataclasses.field(default_factory=list, compare=False)

    def __call__(self, t, s, like, draw=0):
        self.asked.append((t.index, draw + self.offset))
        return super().__call__(t, s, like, draw)


@pytest.mark.parametrize("first", ["corrector", "predictor"])
def test_two_solvers_in_one_step_never_share_a_draw(first):
    model, steps = sd.ScoreModel(lambda x, t: torch.tanh(x), sd.VP()), 4
    for predictor in ("euler_maruyama", "ancestral"):
        langevin = sd.solver("langevin", n=3)
        both = sd.solver("predictor_corrector", predictor=predictor, corrector=langevin, first=first)
        noise = Asked()
        sd.sample(model, (2, 3), solver=both, steps=steps, noise=noise)
        assert len(set(noise.asked)) == len(noise.asked) == steps * (3 + 1)


def test_times_off_the_path_are_refused():
    with pytest.raises(ValueError, match=r"covers \[0, 1.0\], asked for time 1.5"):
        Brownian()(at(0, 1.5), at(1, 1.0), empty(1, 1))
