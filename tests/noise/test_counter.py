"""The counter's bits, and what a sample's noise depends on."""

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sdediff.noise.brownian import Brownian
from sdediff.noise.counter import Counter
from sdediff.noise.philox import philox
from sdediff.noise.stream import Stream
from tests.noise.draws import at, empty

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
