"""Song and Ermon 2019 and 2020: the ladder of sigmas and what NCSNv2 computes from the data."""

import pytest
import torch

import sdediff as sd
from sdediff.training import ladder_ratio, ladder_size, langevin_step, largest_distance, noise_ladder
from sdediff.training.ncsn import step_error

F64 = torch.float64


def test_the_ladder_is_geometric():
    sigmas = noise_ladder().sigma(torch.arange(1.0, 11.0, dtype=F64))
    torch.testing.assert_close(sigmas[[0, -1]], torch.tensor([0.01, 1.0], dtype=F64))
    torch.testing.assert_close(sigmas[1:] / sigmas[:-1], torch.full((9,), 100 ** (1 / 9), dtype=F64))
    assert noise_ladder(20, 0.01, 100).n == 100


def test_technique_1_on_the_digits():
    data = sd.data("digits", "train")
    levels = torch.from_numpy(data.integers()).double()
    assert largest_distance(levels) == pytest.approx(78.80989785554, rel=1e-12)
    assert largest_distance(data.tensor((0.0, 1.0), dtype=F64)) == pytest.approx(4.63587634, rel=1e-8)
    assert largest_distance(data.tensor((-1.0, 1.0), dtype=F64)) == pytest.approx(9.27175269, rel=1e-8)


@pytest.mark.parametrize(("dims", "ratio"), [(64, 1.36084979409), (784, 1.08197173780), (3072, 1.03979641651)])
def test_technique_2(dims, ratio):
    assert ladder_ratio(dims) == pytest.approx(ratio, rel=1e-11)
    assert ladder_size(ratio**10, 1.0, dims) == 11


def test_technique_4_on_cifar():
    ratio = 5000 ** (1 / 231)
    assert step_error(6.2e-6, ratio, 0.01, 5) == pytest.approx(1.05547462494, rel=1e-11)
    found = langevin_step(ratio, 0.01, 5)
    assert found == pytest.approx(6.1837e-6, rel=1e-4)
    nearest = abs(step_error(found, ratio, 0.01, 5) - 1)
    assert all(nearest < abs(step_error(found * f, ratio, 0.01, 5) - 1) for f in (0.97, 0.99, 1.01, 1.03))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: noise_ladder(0.01, 1.0), "0 < smallest < largest"), (lambda: noise_ladder(levels=1), "levels=1"),
        (lambda: largest_distance(torch.zeros(1, 2)), "needs two"), (lambda: ladder_ratio(0), "dims=0"),
        (lambda: langevin_step(1.0, 0.01, 5), "ratio > 1"), (lambda: ladder_size(1, 2, 64), "smallest < largest"),
    ],
)  # fmt: skip
def test_ladders_that_are_none_are_refused(call, match):
    with pytest.raises(sd.Error, match=match):
        call()
