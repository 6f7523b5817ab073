"""Data sets: the maps of integer levels, splits, and what a set refuses."""

import numpy as np
import pytest
import torch

from sdediff.datasets import DataError, DataSet
from tests.datasets.writers import DIGITS


def test_levels_go_to_the_centres_of_their_bins():
    k = np.arange(17, dtype=np.uint8)[:, None]
    data = DataSet(k, levels=17)
    assert data.range == (0.0, 16.0)
    torch.testing.assert_close(
        data.tensor(dtype=torch.float64), torch.from_numpy((2 * k + 1) / 17 - 1), rtol=0, atol=1e-15
    )
    unit = data.tensor(range=(0, 1))
    assert unit.dtype == torch.float32
    torch.testing.assert_close(unit, torch.from_numpy((k + 0.5) / 17).float())
    assert (data.shape, data.dims, len(data)) == ((1,), 1, 17)
    assert np.array_equal(data.integers([3, 5]), [[3], [5]])


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 1.0), (-3.0, 5.0)])
def test_dequantised_values_lie_in_their_bins_and_fill_them(bounds):
    data = DataSet(DIGITS, levels=17)
    x = data.dequantised(seed=1, range=bounds, dtype=torch.float64).numpy()
    within = (x - bounds[0]) / (bounds[1] - bounds[0]) * 17 - DIGITS
    assert within.min() > -1e-12
    assert within.max() < 1 + 1e-12
    count = within.size
    assert abs(within.mean() - 0.5) < 5 * (1 / 12 / count) ** 0.5
    assert abs(within.var() - 1 / 12) < 5 * (1 / 180 / count) ** 0.5


def test_dequantised_values_depend_on_the_seed_and_the_row_alone(monkeypatch):
    data = DataSet(DIGITS, levels=17)
    whole = data.dequantised(seed=5)
    order = np.random.default_rng(0).permutation(40)
    assert torch.equal(data.dequantised(seed=5, index=order), whole[order])
    assert torch.equal(torch.cat([data.dequantised(seed=5, index=[i]) for i in range(40)]), whole)
    monkeypatch.setattr("sdediff.datasets.checks._AT_ONCE", 3 * 64)
    assert torch.equal(data.dequantised(seed=5), whole)
    assert not torch.equal(data.dequantised(seed=6), whole)
    assert len(torch.unique(data.dequantised(seed=5) - data.tensor())) > 2500


def test_fractions_of_a_byte_are_levels_of_the_range_from_0_to_1():
    k = np.arange(256).reshape(-1, 1)
    fractions = DataSet((k / 255).astype(np.float32), levels=256, range=(0, 1))
    assert np.array_equal(fractions.integers(), k)
    assert torch.equal(fractions.tensor(), DataSet(k.astype(np.uint8), levels=256).tensor())


def test_continuous_data_are_mapped_from_their_declared_range_only():
    x = np.array([[0.0, 5.0], [10.0, 2.5]])
    expected = torch.tensor([[-1.0, 0.0], [1.0, -0.5]])
    assert torch.equal(DataSet(x, range=(0, 10)).tensor(), expected)
    assert torch.equal(DataSet(x).tensor(), torch.from_numpy(x).float())
    assert torch.equal(DataSet(torch.from_numpy(x).bfloat16()).tensor(), torch.from_numpy(x).float())
    for ask in (DataSet(x).dequantised, DataSet(x).integers):
        with pytest.raises(DataError, match=r"continuous data have no .*: declare levels="):
            ask()


def test_a_split_has_every_row_once_and_the_same_rows_again():
    data = DataSet(np.arange(50.0)[:, None], labels=np.arange(50), name="rows")
    train, test = data.split(0.2, seed=3)
    assert (len(train), len(test), test.name) == (40, 10, "rows:test")
    assert sorted([*train.labels, *test.labels]) == list(range(50))
    assert np.array_equal(test.x[:, 0], test.labels)
    assert np.array_equal(data.split(0.2, seed=3)[1].labels, test.labels)
    assert not np.array_equal(data.split(0.2, seed=4)[1].labels, test.labels)
    with pytest.raises(DataError, match=r"fraction=0.001 of 50 rows leaves one part empty"):
        data.split(0.001)


def test_bad_rows_are_named_or_kept():
    x = np.ones((6, 2))
    x[2, 0], x[4, 1] = np.nan, np.inf
    with pytest.raises(DataError, match=r"^set: row 2 holds NaN or Inf \(2 such rows of 6\).*allow_bad=True"):
        DataSet(x, name="set")
    kept = DataSet(x, levels=3, allow_bad=True)
    assert kept.bad_rows == (2, 4)
    assert torch.isfinite(kept.dequantised()).all(dim=1).tolist() == [True, True, False, True, False, True]
    assert np.array_equal(kept.integers([0, 5]), np.ones((2, 2)))
    with pytest.raises(DataError, match="row 2 holds NaN or Inf"):
        kept.integers()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": np.zeros((0, 8))}, r"empty, shape \(0, 8\)"),
        ({"x": np.zeros((4, 0))}, r"empty, shape \(4, 0\)"),
        ({"x": np.zeros(4)}, r"shape \(4,\): give \(N, ...\)"),
        ({"x": np.array([["a"]])}, "type <U1: give integers or real numbers"),
        ({"x": np.array([[17.0]]), "levels": 17}, r"values in \[17, 17\] leave .* \[0, 16\] of 17 levels"),
        (
            {"x": np.array([[3]]), "range": (5, 9)},
            r"values in \[3, 3\] leave the declared range \[5, 9\]: give",
        ),
        ({"x": DIGITS, "levels": 16}, r"values in \[0, 16\] leave the declared range \[0, 15\] of 16 levels"),
        (
            {"x": np.array([[1.0], [0.5]]), "levels": 17},
            r"row 1 holds values between the levels .* \[0, 16\]",
        ),
        ({"x": np.ones((2, 2)), "levels": 1}, "levels=1: give an integer >= 2"),
        ({"x": np.ones((2, 2)), "levels": 2.5}, "levels=2.5: give an integer"),
        (
            {"x": np.ones((2, 2)), "range": (1, 0)},
            r"range=\(1, 0\): give two finite numbers, the lower first",
        ),
        ({"x": np.ones((2, 2)), "range": 3}, "range=3: give two finite numbers"),
        ({"x": np.ones((2, 2)), "labels": [1]}, "1 labels for 2 samples"),
    ],
)
def test_what_a_set_refuses(given, message):
    with pytest.raises(DataError, match=message) as caught:
        DataSet(**given, name="my.npy")
    assert str(caught.value).startswith("my.npy: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", [[-1], [40], [0.5], [True], [[1]]])
def test_rows_that_are_not_there_are_refused(index):
    with pytest.raises(DataError, match="index"):
        DataSet(DIGITS, levels=17).tensor(index=index)


def test_one_row_and_no_row_may_be_asked_for():
    data = DataSet(DIGITS, levels=17)
    assert torch.equal(data.tensor(index=np.int64(3)), data.tensor()[3:4])
    assert data.tensor(index=[]).shape == (0, 1, 8, 8)
