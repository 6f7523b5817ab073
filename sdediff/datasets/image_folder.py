"""Folders of PNG and JPEG pictures of one size, decoded as they are read."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdediff.datasets.errors import DataError, needed
from sdediff.datasets.locations import Location
from sdediff.datasets.stored_rows import Source, bounded, loaded

_ENDINGS = (".png", ".jpg", ".jpeg")
_CHANNELS = {"L": 1, "RGB": 3}


@dataclass(frozen=True)
class Pictures(Source):
    """Pictures (N, C, H, W) of bytes, in the order of their names."""

    name: str
    files: tuple[Location, ...]
    shape: tuple[int, ...]
    dtype: np.dtype

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """Pictures from `start` on."""
        for first in range(start, len(self.files), self.block_rows):
            yield np.stack([_pixels(file, self.shape[1:]) for file in self.files[first : first + self.block_rows]])


def image_folder(location: Location, limit: int | None) -> Any:
    """The pictures of a folder; their headers are read first, and all must say one size and number of channels."""
    files = [entry for entry in location.inside() if entry.ending in _ENDINGS]
    if not files:
        raise DataError(f"{location}: no PNG or JPEG image in this folder: give a folder that holds them")
    files = files[:limit]
    shapes = [_shape(file) for file in files]
    for file, shape in zip(files, shapes, strict=True):
        if shape != shapes[0]:
            raise DataError(
                f"{file}: shape {shape}, the first image, {files[0].name}, has {shapes[0]}: "
                "give all the same size and number of channels"
            )
    row = math.prod(shapes[0])
    bounded(str(location), len(files) * row, sum(file.size for file in files), row)
    return loaded(Pictures(str(location), tuple(files), (len(files), *shapes[0]), np.dtype(np.uint8)), None)


def _shape(file: Location) -> tuple[int, int, int]:
    """(C, H, W) by the picture's header."""
    with _image(file) as image:
        if image.mode not in _CHANNELS:
            raise DataError(f"{file}: image mode {image.mode}: convert it to RGB or to greyscale (L)")
        return _CHANNELS[image.mode], image.height, image.width


def _pixels(file: Location, shape: tuple[int, ...]) -> np.ndarray:
    """The bytes (C, H, W) of one greyscale or RGB image."""
    with _image(file) as image:
        pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if pixels.shape != shape:
        raise DataError(f"{file}: shape {pixels.shape}, {shape} when it was first read: it was changed meanwhile")
    return pixels


@contextmanager
def _image(file: Location) -> Iterator[Any]:
    """An open picture. Pillow refuses those whose dimensions no picture has; its warning of them is an error here."""
    pillow = needed("PIL.Image", "pillow")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with file.open() as stream, pillow.open(stream) as image:
                yield image
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{file}: not a readable image ({error}): mend or remove it") from error
