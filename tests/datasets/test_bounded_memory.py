"""Peak memory while large files of every format are opened and read, each in a process of its own.

The bound is stated beside each case and counts what the process takes beyond its start, libraries included.
"""

import gzip
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sdediff.datasets import StoredRows, read

ROWS, WIDTH = 60_000, 64  # 29 MiB of float64

_MEASURED = """
import numpy as np, torch, pyarrow.parquet, PIL.Image
from sdediff.datasets import read, stored_rows

def kib(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1])

stored_rows.IN_MEMORY = {in_memory}
# The peak so far has the imports in it, and getrusage's that of the process it was forked from: begin anew.
with open("/proc/self/clear_refs", "w") as control:
    control.write("5")
before = kib("VmRSS")
{code}
print(kib("VmHWM") - before)
"""


def grown(code, in_memory=1 << 26):
    """KiB by which a fresh process grows while it runs the code; in_memory: bytes of what is read into memory."""
    if sys.platform != "linux":
        pytest.skip("peak memory is read from /proc")
    code = _MEASURED.format(code=code, in_memory=in_memory)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def values(rows=ROWS):
    return np.arange(rows * WIDTH, dtype=np.float64).reshape(rows, WIDTH) % 997


def write_parquet_groups(path, rows=ROWS, group=25_000):
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.list_(pa.float64(), WIDTH)
    with pq.ParquetWriter(path, pa.schema([("x", kind)])) as writer:
        for start in range(0, rows, group):
            stop = min(start + group, rows)
            flat = pa.array(np.arange(start * WIDTH, stop * WIDTH, dtype=np.float64) % 997)
            writer.write_table(pa.table({"x": pa.FixedSizeListArray.from_arrays(flat, WIDTH)}))


def write_large(path, rows=ROWS):
    if path.suffix == ".npz":
        np.savez_compressed(path, x=values(rows))
    elif path.suffix == ".parquet":
        write_parquet_groups(path, rows)
    else:
        x = values(8 * rows).astype(np.uint8)
        header = bytes([0, 0, 8, 2]) + np.array(x.shape, ">u4").tobytes()
        path.write_bytes(gzip.compress(header + x.tobytes(), compresslevel=1))


def reading(path):
    """Code that opens a file, reads all its rows in pieces and a few in no order, and opens its first rows alone."""
    return (
        f"data = read({str(path)!r})\n"
        "assert type(data.x).__name__ == 'StoredRows', type(data.x)\n"
        "for i in range(0, len(data), 2000): data.x[i : i + 2000]\n"
        "data.tensor(index=[len(data) - 1, 7, 40_000])\n"
        f"assert len(read({str(path)!r}, limit=5)) == 5\n"
    )


# pyarrow takes 30 MiB for itself when it opens its first file.
@pytest.mark.parametrize(
    ("name", "rows", "mib"), [("x.npz", ROWS, 16), ("x-idx2.gz", ROWS, 16), ("x.parquet", 400_000, 60)]
)
def test_a_packed_file_of_29_mib_or_195_is_read_in_less(tmp_path, name, rows, mib):
    write_large(tmp_path / name, rows)
    assert grown(reading(tmp_path / name), in_memory=1 << 20) < mib * 1024


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mib"), [("x.npz", 40), ("x-idx2.gz", 40), ("x.parquet", 70)])
def test_a_packed_file_of_781_mib_is_read_in_a_tenth(tmp_path, name, mib):
    write_large(tmp_path / name, rows=1_600_000)
    assert grown(reading(tmp_path / name)) < mib * 1024


def test_a_large_plainly_stored_archive_is_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr("sdediff.datasets.numpy_files.IN_MEMORY", 1 << 20)
    path = tmp_path / "x.npz"
    np.savez(path, x=values())
    data = read(path)
    assert isinstance(data.x, np.memmap)
    assert np.array_equal(data.x[[0, ROWS - 1]], values()[[0, ROWS - 1]])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz: damaged or of another format \(Bad CRC-32"):
        read(path)


def test_a_folder_of_pictures_is_decoded_as_it_is_read(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png", compress_level=0)
    code = f"data = read({str(tmp_path)!r})\nassert type(data.x).__name__ == 'StoredRows'"
    code += "\nfor i in range(12): data.x[i]"
    assert grown(code, in_memory=1 << 20) < 20 * 1024
    assert np.array_equal(read(tmp_path).x[[11, 0, 11]][2], pixels.transpose(2, 0, 1))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The same rows in formats that are read in two ways, each as a StoredRows."""
    folder = tmp_path_factory.mktemp("stored")
    np.savez_compressed(folder / "x.npz", x=values())
    write_parquet_groups(folder / "x.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdediff.datasets.stored_rows.IN_MEMORY", 1 << 20)
        return {kind: read(folder / f"x.{kind}").x for kind in ("npz", "parquet")}


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_rows_are_those_of_the_array_in_any_order(stored, kind):
    x, expected = stored[kind], values()
    assert isinstance(x, StoredRows)
    assert (x.shape, x.dtype, x.ndim, len(x), x.nbytes) == (expected.shape, np.float64, 2, ROWS, expected.nbytes)
    rng = np.random.default_rng(0)
    keys = [slice(0, 3), slice(59_990, None), slice(49_990, 50_010), slice(10, 2, -3), -1, 7, slice(5, 5)]
    keys += [rng.integers(0, ROWS, 20), [3, 3, -1], np.array([], int), (slice(4, 9), slice(None, 2))]
    for key in keys:
        assert np.array_equal(x[key], expected[key])
    assert np.array_equal(x.head(10)[-3:], expected[7:10])
    assert np.array_equal(x.reshaped((1, 8, 8))[[5]], expected[5].reshape(1, 1, 8, 8))
    with pytest.raises(IndexError, match="of 60000"):
        x[[ROWS]]


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_rows_survive_pickling_and_a_fork_in_between(stored, kind):
    x, expected = stored[kind], values()
    x[:10]
    assert np.array_equal(pickle.loads(pickle.dumps(x))[20:30], expected[20:30])
    if sys.platform == "linux" and kind == "npz":
        out, into = os.pipe()
        child = os.fork()
        if not child:
            os.write(into, b"y" if np.array_equal(x[40_000:40_010], expected[40_000:40_010]) else b"n")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(out, 1) == b"y"
        os.close(out)
        os.close(into)
    assert np.array_equal(x[10:20], expected[10:20])
