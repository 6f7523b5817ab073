"""Small files that unpack to far more than they are: refused by declared and by measured sizes, in little memory."""

import gzip
import io
import resource
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from sdediff.datasets import DataError, read
from tests.datasets.test_bounded_memory import grown

GIB, SIZE = 1 << 30, 320 << 20


def npy_header(shape, kind="|u1"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})
    return out.getvalue()


def write_npz_bomb(path, size):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w", force_zip64=True) as f:
        f.write(npy_header((size // 64, 64)))
        for _ in range(size >> 24):
            f.write(bytes(1 << 24))


def write_gz_bomb(path, size):
    with gzip.open(path, "wb", compresslevel=6) as f:
        f.write(bytes([0, 0, 8, 2]) + np.array([size // 64, 64], ">u4").tobytes())
        for _ in range(size >> 24):
            f.write(bytes(1 << 24))


def write_parquet_bomb(path, size, **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": np.zeros(size // 8)}), path, **options)


WRITERS = {"x.npz": write_npz_bomb, "x-idx2.gz": write_gz_bomb, "x.parquet": write_parquet_bomb}


@pytest.mark.parametrize("name", list(WRITERS))
def test_bombs_are_refused_with_what_to_write_and_their_first_rows_read(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, SIZE)
    assert path.stat().st_size < 4 << 20
    code = (
        "from sdediff.datasets import DataError\n"
        f"assert read({str(path)!r}, limit=50).x.shape[0] == 50\n"
        f"try: read({str(path)!r})\n"
        "except DataError as error: assert 'unpack to 335,' in str(error) and 'limit=' in str(error), error\n"
        "else: raise SystemExit('it was read')\n"
    )
    assert grown(code) < 32 * 1024


def test_a_parquet_page_that_unpacks_to_more_than_its_rows_is_refused_with_limit_too(tmp_path):
    path = tmp_path / "x.parquet"
    write_parquet_bomb(path, SIZE, use_dictionary=False, compression="zstd", data_page_size=GIB, row_group_size=GIB)
    with pytest.raises(DataError, match=r"x\.parquet: .* bytes unpack to 335,.*, as a damaged or hostile file's do"):
        read(path, limit=3)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read in KiB")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.npy", npy_header((10**13, 64)) + bytes(64)),
        ("x.npy", npy_header((1, 10**13)) + bytes(64)),
        ("x.npy", npy_header((2**62, 2**62)) + bytes(64)),
        ("x.npy", npy_header((-1, 8)) + bytes(64)),
        ("x.npy", npy_header(()) + bytes(1)),
        ("x-idx3", bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(99)),
        ("x-idx3.gz", gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(99))),
        ("x-idx200", bytes([0, 0, 14, 200]) + b"\xff" * 800 + bytes(99)),
        ("x-idx2.gz", gzip.compress(bytes([0, 0, 8, 2, 0, 0, 0, 9, 0, 0, 0, 9]) + bytes(80))),
        ("x-idx2.gz", gzip.compress(bytes([0, 0, 8, 2, 0, 0, 0, 9, 0, 0, 0, 9]) + bytes(82))),
    ],
    ids=range(10),
)
@pytest.mark.parametrize("limit", [None, 2])
def test_headers_that_promise_more_than_there_is_take_no_memory(tmp_path, name, content, limit):
    (tmp_path / name).write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError) as caught:
        read(tmp_path / name, limit=limit)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def test_a_row_larger_than_memory_should_hold_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x-idx2.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 2, 0, 0, 0, 2]) + (GIB + 64).to_bytes(4, "big") + bytes(1 << 22)))
    monkeypatch.setattr("sdediff.datasets.idx_files._DEFLATE", 10**6)
    with pytest.raises(DataError, match=r"a row has 1,073,741,888 bytes, at most 2\^30 are read"):
        read(path)


@pytest.mark.parametrize("size", [(20_000, 20_000), (12_000, 9_000)])
def test_pictures_of_huge_dimensions_are_refused_before_they_are_decoded(tmp_path, size):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", size).save(folder / "a.png")
    refused = (
        "from sdediff.datasets import DataError\n"
        f"try: read({str(folder)!r})\n"
        "except DataError as error: assert 'a.png: not a readable image' in str(error), error\n"
        "else: raise SystemExit('it was read')\n"
    )
    assert grown(refused) < 24 * 1024


def test_many_empty_pictures_are_refused_by_what_they_unpack_to(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (5_000, 5_000)).save(folder / "0.png")
    for i in range(1, 5):
        (folder / f"{i}.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"unpack to 375,000,000, as a damaged or hostile file's do"):
        read(folder)
    assert read(folder, limit=1).shape == (3, 5_000, 5_000)
