"""Data sets with a declared range and number of levels: npy, npz, IDX, Parquet, folders of images, object stores."""

from sdediff.datasets.errors import DataError, needed
from sdediff.datasets.pictures import grid_image, save_grid
from sdediff.datasets.readers import as_samples, column, read, with_channel, without_channel
from sdediff.datasets.sets import DataSet
from sdediff.datasets.stored_rows import StoredRows

__all__ = [
    "DataError",
    "DataSet",
    "StoredRows",
    "as_samples",
    "column",
    "grid_image",
    "needed",
    "read",
    "save_grid",
    "with_channel",
    "without_channel",
]
