"""Grids of images."""

import numpy as np
import pytest
import torch
from PIL import Image

from sdediff.datasets import DataError, grid_image, save_grid
from tests.datasets.writers import DIGITS


def test_a_grid_shows_every_image_enlarged_in_its_place():
    x = torch.linspace(-1, 1, 5).reshape(5, 1, 1, 1).expand(5, 1, 8, 8)
    picture = np.asarray(grid_image(x, columns=3))
    assert picture.shape == (2 * 34 + 2, 3 * 34 + 2)
    centres = [picture[2 + 34 * (i // 3) + 16, 2 + 34 * (i % 3) + 16] for i in range(5)]
    assert centres == [0, 64, 128, 191, 255]
    assert (picture[:2] == picture[0, 0]).all()
    assert (picture[36:, 70:] == picture[0, 0]).all()


def test_grids_clip_and_keep_colours():
    x = np.zeros((1, 3, 40, 40))
    x[0, 0], x[0, 1] = 7.0, -7.0
    picture = grid_image(x, range=(0, 1))
    assert (picture.mode, picture.size, picture.getpixel((20, 20))) == ("RGB", (44, 44), (255, 0, 0))
    assert grid_image(x, scale=2).size == (84, 84)
    assert grid_image(np.zeros((10, 1, 8, 8))).size == (4 * 34 + 2, 3 * 34 + 2)


def test_a_saved_grid_is_whole_or_absent(tmp_path, monkeypatch):
    path = save_grid(DIGITS / 16, tmp_path / "ü grid.png", range=(0, 1))
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
    before = path.read_bytes()

    def full(*_args, **_keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_grid(DIGITS / 16, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder: grid_image(np.zeros((2, 2, 8, 8))), r"shape \(2, 2, 8, 8\): give \(B, C, H, W\)"),
        (lambda folder: grid_image(np.zeros((0, 1, 8, 8))), "B at least 1"),
        (lambda folder: grid_image(np.full((2, 1, 8, 8), np.nan)), r"image 0 holds NaN or Inf \(2 of 2 do\)"),
        (lambda folder: grid_image(DIGITS, columns=0), "columns=0"),
        (lambda folder: grid_image(DIGITS, range=(1, -1)), r"range=\(1, -1\)"),
        (lambda folder: save_grid(DIGITS, folder / "x.jpg"), "ends in .png"),
        (lambda folder: save_grid(DIGITS, folder / "no" / "x.png"), "make it first"),
    ],
)
def test_grids_that_cannot_be_drawn(tmp_path, call, message):
    with pytest.raises(DataError, match=message):
        call(tmp_path)
