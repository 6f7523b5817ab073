"""The data sets of the workplace, where it has them."""

from pathlib import Path

import numpy as np
import pytest

from sdediff.datasets import read

SHARED = Path(__file__).parents[3] / "shared" / "data"


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not in {SHARED}: the data sets of the workplace are not part of the project")
    return SHARED / name


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_files(name):
    labels = read(shared(f"{name}-t10k-labels-idx1-ubyte.gz")).x[:, 0]
    data = read(shared(f"{name}-t10k-images-idx3-ubyte.gz"), labels=labels, limit=500)
    assert (data.shape, data.levels, len(data), data.labels.shape) == ((1, 28, 28), 256, 500, (500,))
    assert (labels[:3].tolist(), len(labels)) == (
        {"mnist": [7, 2, 1], "fashion-mnist": [9, 2, 1]}[name],
        10_000,
    )


def test_uci_files():
    magic = read(shared("uci_magic.npz"), key="x")
    assert (magic.x.shape, magic.levels) == ((19020, 10), None)
    digits = read(shared("uci_optdigits_8x8.npz"), key="test_images", levels=17)
    assert (digits.x.shape, digits.range) == ((1797, 1, 8, 8), (0.0, 16.0))
    assert np.array_equal(np.unique(digits.integers()), np.arange(17))
