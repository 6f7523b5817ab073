"""Data in object stores, by their URLs: fsspec's memory file system and local files by file://."""

import shutil

import fsspec
import numpy as np
import pytest

from sdediff.datasets import DataError, StoredRows, column, read
from tests.datasets.writers import DIGITS, write, write_images, write_parquet

NAMES = ["x.npy", "x.npz", "x-idx3-ubyte", "x-idx3-ubyte.gz", "x.parquet", "pictures"]


@pytest.fixture
def store(tmp_path):
    """The digits in every format, in a folder and in the memory file system under the same names."""
    for name in NAMES:
        if name == "x.parquet":
            import pyarrow as pa

            kind = pa.FixedShapeTensorArray.from_numpy_ndarray(DIGITS)
            write_parquet(tmp_path / name, {"image": kind})
        elif name == "pictures":
            write_images(tmp_path / name, DIGITS)
        else:
            write(tmp_path / name, DIGITS[:, 0])
    np.save(tmp_path / "labels.npy", np.arange(40))
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path) + "/", "/store", recursive=True)
    yield tmp_path
    memory.rm("/store", recursive=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_read_from_a_store(store, name):
    local = read(store / name, levels=17)
    for url in (f"memory://store/{name}", f"file://{store / name}"):
        data = read(url, levels=17)
        assert data.name == url
        assert np.array_equal(data.x, local.x)
        assert np.array_equal(read(url, levels=17, limit=7).x, local.x[:7])
        assert np.array_equal(column(url, "memory://store/labels.npy"), np.arange(40))


def test_large_files_of_a_store_are_read_where_they_are(store, monkeypatch):
    monkeypatch.setattr("sdediff.datasets.stored_rows.IN_MEMORY", 1 << 20)
    x = np.arange(1 << 20, dtype=np.float32).reshape(-1, 8)
    np.save(store / "large.npy", x)
    fsspec.filesystem("memory").put(str(store / "large.npy"), "/store/large.npy")
    data = read("memory://store/large.npy")
    assert isinstance(data.x, StoredRows)
    rows = [len(x) - 1, 0, 5, 100_000]
    assert np.array_equal(data.x[rows], x[rows])
    assert np.array_equal(data.head(3).x[:], x[:3])


def test_pyarrows_file_systems_serve_as_well(store, monkeypatch):
    """Stores of pyarrow, such as s3:// and gs://, stood in for by its local one."""
    from pyarrow import fs

    asked = []

    class Standing:
        @staticmethod
        def from_uri(url):
            asked.append(url)
            return fs.LocalFileSystem(), str(store / url.partition("://bucket/")[2])

    monkeypatch.setattr(fs, "FileSystem", Standing)
    for name in ("x.npz", "x-idx3-ubyte.gz", "x.parquet", "x.npy"):
        assert np.array_equal(read(f"s3://bucket/{name}", levels=17).x, DIGITS)
    assert asked[0] == "s3://bucket/x.npz"


def test_urls_that_lead_nowhere_are_refused_in_one_sentence(store):
    for url, words in (
        ("memory://store/absent.npy", r"memory://store/absent\.npy: no such file or folder"),
        ("nowhere://bucket/x.npy", r"nowhere://bucket/x\.npy: the store cannot be reached"),
        (f"file://{store}/absent.npy", "no such file or folder"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            read(url)
        assert "\n" not in str(caught.value)
    shutil.rmtree(store / "pictures")


@pytest.mark.parametrize("path", ["~nouser/x.npy", "x" * 5000 + ".npy", "a\0b.npy", "/" + "deep/" * 2000 + "x.npy"])
def test_paths_that_no_file_can_have_are_refused(path):
    with pytest.raises(DataError):
        read(path)
    with pytest.raises(DataError):
        column(path, "label")
