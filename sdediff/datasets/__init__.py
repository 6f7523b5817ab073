"""Data sets with a declared range and number of levels: npy, npz, IDX, Parquet, folders of images."""

from sdediff.datasets.against_card import DataWarning, check_data_set, check_states
from sdediff.datasets.checks import DataError, needed
from sdediff.datasets.pictures import grid_image, save_grid
from sdediff.datasets.readers import read
from sdediff.datasets.sets import DataSet

__all__ = [
    "DataError",
    "DataSet",
    "DataWarning",
    "check_data_set",
    "check_states",
    "grid_image",
    "needed",
    "read",
    "save_grid",
]
