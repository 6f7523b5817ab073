"""Noise: the counter's bits, its normals, the Brownian path, and what each of them depends on.

Statistical tests have a fixed seed. A z-score of 5.4 is passed by chance less than once in 10^7 (two-sided
6.7e-8), a KS p-value below 1e-8 likewise; no test makes more than 15 such comparisons.
"""

import dataclasses
import itertools
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

import sdediff as sd
from sdediff import noise as noises
from sdediff.noise.counter.brownian import Brownian
from sdediff.noise.counter.counter import Counter, Noise, Stream, indices, normals, philox, uniforms

Z, ALPHA = 5.4, 1e-8


def at(index, t=None):
    """What a noise reads of a level."""
    return SimpleNamespace(index=index, t=t)


def empty(*shape, dtype=torch.float64):
    return torch.empty(shape, dtype=dtype)


def correlation_z(a, b):
    """z-score of the correlation of two arrays of independent numbers: r sqrt(n) is N(0, 1)."""
    a, b = np.ravel(a), np.ravel(b)
    return np.corrcoef(a, b)[0, 1] * math.sqrt(len(a))


# --- bits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_random123s_known_answers(counter, key, answer):
    assert " ".join(f"{int(w):08x}" for w in philox(counter, key)) == answer


def test_philox_on_arrays_is_philox_on_each_element():
    blocks, samples = np.arange(5)[None, :], np.array([0, 3, 2**32 - 1])[:, None]
    together = philox((blocks, samples, 7, 11), (1, 2))
    assert together.shape == (4, 3, 5)
    for i, j in np.ndindex(3, 5):
        alone = philox((int(blocks[0, j]), int(samples[i, 0]), 7, 11), (1, 2))
        assert np.array_equal(together[:, i, j], alone)


# --- what a sample's noise depends on ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [Counter, Brownian], ids=["counter", "brownian"])
def test_a_samples_noise_ignores_batch_order_and_place(make):
    t, s, shape = at(3, 0.75), at(4, 0.6), (3, 2)
    for draw in (0, 1, 2):
        together = make(seed=9)(t, s, empty(8, *shape), draw)
        for i in range(8):
            assert torch.equal(make(seed=9, index=i)(t, s, empty(1, *shape), draw)[0], together[i])
        order = [5, 0, 7, 2]
        assert torch.equal(make(seed=9, index=order)(t, s, empty(4, *shape), draw), together[order])
        tail = make(seed=9, index=5)(t, s, empty(3, *shape), draw)
        assert torch.equal(tail, together[5:])


def test_the_first_state_ignores_batch_and_kind_of_noise():
    whole = Counter(4).initial(empty(6, 5))
    assert torch.equal(Brownian(4, index=[2, 4]).initial(empty(2, 5)), whole[[2, 4]])
    # The start is no level's draw.
    assert not torch.equal(whole, Counter(4)(at(0), at(1), empty(6, 5)))


@pytest.mark.parametrize("make", [Counter, Brownian, Stream], ids=["counter", "brownian", "stream"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_lower_precision_is_the_rounded_float64(make, dtype):
    for draw in (0, 1):
        wide = make(seed=3)(at(1, 0.5), at(2, 0.25), empty(4, 9), draw)
        narrow = make(seed=3)(at(1, 0.5), at(2, 0.25), empty(4, 9, dtype=dtype), draw)
        assert narrow.dtype == dtype
        assert torch.equal(narrow, wide.to(dtype))


def test_noise_does_not_depend_on_the_shape_of_a_sample():
    flat = Counter(1)(at(0), at(1), empty(3, 12))
    assert torch.equal(Counter(1)(at(0), at(1), empty(3, 2, 2, 3)).reshape(3, 12), flat)
    assert torch.equal(Counter(1)(at(0), at(1), empty(3, 7)), flat[:, :7])


@pytest.mark.parametrize("make", [Counter, Brownian, Stream], ids=["counter", "brownian", "stream"])
def test_seeds_that_differ_above_bit_32_differ(make):
    # torch's CPU generator reads 32 bits of its seed alone, so hashed seeds collide there.
    seeds = [5, 5 + 2**32, 5 + 2**33, 5 + 2**63, 2**64 - 1]
    drawn = [make(seed=v)(at(1, 0.5), at(2, 0.25), empty(2, 8)) for v in seeds]
    firsts = [make(seed=v).initial(empty(2, 8)) for v in seeds]
    for values in (drawn, firsts):
        for i in range(len(seeds)):
            for j in range(i):
                assert not bool((values[i] == values[j]).any())


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = [make(seed=1)(at(1, 0.5), at(2, 0.25), empty(2, 3)) for make in (Counter, Brownian, Stream)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    two = [make(seed=1)(at(1, 0.5), at(2, 0.25), empty(2, 3)) for make in (Counter, Brownian, Stream)]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_another_level_draw_or_offset_is_other_noise():
    like, base = empty(2, 50), Counter(2)
    drawn = [
        base(at(0), at(1), like),
        base(at(1), at(2), like),
        base(at(0), at(1), like, 1),
        base(at(1), at(2), like, 1),
        base.shifted()(at(0), at(1), like),
        base.shifted().shifted()(at(0), at(1), like),
        base.initial(like),
        Counter(3)(at(0), at(1), like),
    ]
    for i in range(len(drawn)):
        for j in range(i):
            assert not bool((drawn[i] == drawn[j]).any())


def test_replacing_seed_or_index_of_a_path_gives_that_path():
    t, s, like = at(0, 1.0), at(1, 0.9), empty(2, 3)
    used = Brownian(seed=0)
    used(t, s, like)
    assert torch.equal(dataclasses.replace(used, seed=5)(t, s, like), Brownian(seed=5)(t, s, like))
    assert torch.equal(dataclasses.replace(used, index=7)(t, s, like), Brownian(index=7)(t, s, like))


def test_one_path_serves_two_threads():
    like = empty(2, 3)
    spans = [(1 - i / 64, 1 - (i + 1) / 64) for i in range(64)]
    alone = [Brownian(3)(at(0, a), at(1, b), like) for a, b in spans]
    shared, patience = Brownian(3), sys.getswitchinterval()

    def run(_):
        return [shared(at(0, a), at(1, b), like) for a, b in spans]

    try:
        sys.setswitchinterval(1e-6)  # threads that change places at every chance
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(run, range(4)))
    finally:
        sys.setswitchinterval(patience)
    assert all(torch.equal(a, b) for row in found for a, b in zip(row, alone, strict=True))


# --- distributions ----------------------------------------------------------------------------------------


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
    monkeypatch.setattr(noises, "philox", lambda counter, key: np.full((4, 1, 1), word, dtype=np.uint64))
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


# --- Brownian paths -----------------------------------------------------------------------------------------


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
            parts = sum(path(a, b, like) * math.sqrt(a.t - b.t) for a, b in ((fine[2 * i], middle), (middle, s)))
            torch.testing.assert_close(path(t, s, like) * math.sqrt(t.t - s.t), parts, rtol=0, atol=1e-6)


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
        one, two = (sd.sample(model, (2, 3), solver=solver, steps=4, noise=kind) for kind in ("counter", "brownian"))
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


# --- Stream and errors ----------------------------------------------------------------------------------------


def test_stream_repeats_itself_and_no_other_draw():
    like, stream = empty(300, 300), Stream(11)
    z = stream(at(0), at(1), like)
    assert torch.equal(z, Stream(11)(at(0), at(1), like))
    assert abs(z.mean().item()) < Z / 300
    assert abs(z.square().mean().item() - 1) < Z * math.sqrt(2) / 300
    assert stats.kstest(z.numpy().ravel(), "norm").pvalue > ALPHA
    for other in (stream(at(1), at(2), like), stream(at(0), at(1), like, 1), stream.initial(like)):
        assert abs(correlation_z(z.numpy(), other.numpy())) < Z


@pytest.mark.parametrize("seed", [-1, 2**64, 2**70])
@pytest.mark.parametrize("make", [Counter, Brownian, Stream], ids=["counter", "brownian", "stream"])
def test_seeds_outside_64_bits_are_refused(make, seed):
    with pytest.raises(ValueError, match=rf"seed={seed}: give an integer in \[0, 2\*\*64\)"):
        make(seed=seed)


def test_a_seed_is_an_integer():
    with pytest.raises((TypeError, ValueError), match=r"seed=1.5: give an integer"):
        Counter(seed=1.5)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, 1], "index names 2 samples, the batch has 3"),
        ([0, 1, -1], "must lie in"),
        (2**32 - 1, "must lie in"),
        (-1, "must lie in"),
    ],
)
def test_indices_that_do_not_fit_are_refused(index, message):
    with pytest.raises(ValueError, match=message):
        Counter(index=index)(at(0), at(1), empty(3, 2))


def test_indices_reach_the_last_of_32_bits():
    assert indices(2**32 - 2, 2).tolist() == [2**32 - 2, 2**32 - 1]


def test_noise_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Noise()
