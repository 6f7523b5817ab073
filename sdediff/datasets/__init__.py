"""Data sets with a declared range and number of levels: npy, npz, IDX, Parquet, folders of images."""

from sdediff.datasets.checks import DataError, needed
from sdediff.datasets.pictures import grid_image, save_grid
from sdediff.datasets.readers import read
from sdediff.datasets.sets import DataSet

__all__ = [
    "DataError",
    "DataSet",
    "grid_image",
    "needed",
    "read",
    "save_grid",
]
