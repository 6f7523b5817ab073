"""The stream, and seeds and indices that are refused."""

import math

import pytest
import torch
from scipy import stats

import sdediff as sd
from sdediff.noise import counter
from sdediff.noise.brownian import Brownian
from sdediff.noise.counter import Counter, Noise, indices
from sdediff.noise.stream import Stream
from tests.noise.draws import at, correlation_z, empty

Z, ALPHA = 5.4, 1e-8


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
    with pytest.raises((TypeError, ValueError), match=r"seed=1.5: give a whole number"):
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


@pytest.mark.parametrize("span", [math.inf, math.nan, 0.0, -1.0])
def test_a_path_has_a_finite_span(span):
    with pytest.raises(sd.Error, match=f"span={span}: "):
        Brownian(span=span)


def test_a_noises_own_indices_are_looked_at_once(monkeypatch):
    looks = []
    noise = Counter(index=range(300))
    monkeypatch.setattr(counter, "whole", lambda name, value: looks.append(value) or value)
    z = noise(at(0), at(1), empty(300, 2))
    assert not looks
    assert torch.equal(z[7:8], Counter(index=7)(at(0), at(1), empty(1, 2)))
    monkeypatch.undo()
    with pytest.raises(sd.Error, match=r"index=1.5"):
        indices((0, 1.5), 2)
