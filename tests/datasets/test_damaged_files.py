"""Files that are absent, damaged or not for reading: one sentence for every fault."""

import contextlib
import gzip
import os
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from sdediff.datasets import DataError, read
from tests.datasets.writers import DIGITS, write, write_idx, write_images, write_parquet


def test_paths_that_lead_nowhere(tmp_path):
    np.save(tmp_path / "digits.npy", DIGITS)
    with pytest.raises(DataError, match=r"digit\.npy: no such file or folder; did you mean 'digits\.npy'\?"):
        read(tmp_path / "digit.npy")
    with pytest.raises(DataError, match=r"no such file or folder$"):
        read(tmp_path / "absent" / "digits.npy")
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"unknown ending '\.csv': give \.npy"):
        read(tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"key='x' is for \.npz and \.parquet"):
        read(tmp_path / "digits.npy", key="x")
    with pytest.raises(DataError, match="limit=0"):
        read(tmp_path / "digits.npy", limit=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no PNG or JPEG image in this folder"):
        read(tmp_path / "empty")


def make_every_format(folder):
    """One small file of every format, by its name."""
    for name in ("x.npy", "x.npz", "x-idx3-ubyte", "x-idx3-ubyte.gz"):
        write(folder / name, DIGITS[:, 0])
    write_parquet(folder / "x.parquet", {"a": np.arange(500.0), "b": np.arange(500.0)})
    return ["x.npy", "x.npz", "x-idx3-ubyte", "x-idx3-ubyte.gz", "x.parquet"]


def test_damaged_files_are_refused_in_one_sentence_that_names_them(tmp_path):
    for name in make_every_format(tmp_path):
        path = tmp_path / name
        content = path.read_bytes()
        faults = [content[:n] for n in (0, 3, 9, len(content) // 2, len(content) - 1)]
        faults += [b"GIF89a" + content[6:], b"\0" * len(content), b"\x7f" * 40]
        for fault in faults:
            path.write_bytes(fault)
            with pytest.raises(DataError) as caught:
                read(path)
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)


def test_flipped_bits_never_escape_as_another_error(tmp_path):
    rng = np.random.default_rng(0)
    for name in make_every_format(tmp_path):
        path = tmp_path / name
        content = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(content)
            at = rng.integers(len(content) if rng.random() < 0.5 else min(130, len(content)))
            damaged[at] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            with contextlib.suppress(DataError):
                assert len(read(path)) > 0


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x-idx2", "x-idx2.gz"])
def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path, name):
    path = tmp_path / name
    small = tmp_path / "small.npy"
    np.save(small, np.zeros((2, 2)))
    claim = small.read_bytes().replace(b"(2, 2), }         ", b"(2000000000, 2), }")
    if name == "x.npy":
        path.write_bytes(claim)
    elif name == "x.npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", claim)
    else:
        write_idx(path, np.zeros((2, 2)))
        raw = path.read_bytes() if name == "x-idx2" else gzip.decompress(path.read_bytes())
        raw = raw[:4] + (2_000_000_000).to_bytes(4, "big") + raw[8:]
        path.write_bytes(raw if name == "x-idx2" else gzip.compress(raw))
    with pytest.raises(DataError, match=r"truncated: by its header, shape \(2000000000, 2\)"):
        read(path)


def test_idx_faults(tmp_path):
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(b"\x89PNG\r\n" + bytes(40))
    with pytest.raises(DataError, match="not an IDX file: it begins 89 50 4e 47, IDX begins 00 00"):
        read(path)
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0]))
    with pytest.raises(DataError, match="truncated within its header"):
        read(path)
    write_idx(path, DIGITS[:, 0])
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match="too long"):
        read(path)
    write_idx(path, DIGITS[:0, 0])
    with pytest.raises(DataError, match=r"empty, shape \(0, "):
        read(path)


def test_pickled_arrays_are_not_loaded(tmp_path):
    np.save(tmp_path / "o.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", x=np.array([[{}]], dtype=object))
    for name in ("o.npy", "o.npz"):
        with pytest.raises(DataError, match="values of type object"):
            read(tmp_path / name)


def test_folders_of_unlike_images(tmp_path):
    write_images(tmp_path / "f", DIGITS[:2])
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "f" / "zz.png")
    with pytest.raises(DataError, match=r"zz\.png: shape \(1, 8, 9\), the first image, 000\.png, has \(1, 8, 8\)"):
        read(tmp_path / "f")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "f" / "zz.png")
    with pytest.raises(DataError, match=r"zz\.png: image mode I;16: convert it"):
        read(tmp_path / "f")
    (tmp_path / "f" / "zz.png").write_bytes((tmp_path / "f" / "000.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"zz\.png: not a readable image"):
        read(tmp_path / "f")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_the_right_to_read_it(tmp_path):
    np.save(tmp_path / "x.npy", DIGITS)
    (tmp_path / "x.npy").chmod(0)
    with pytest.raises(DataError, match="no permission to read it"):
        read(tmp_path / "x.npy")


def test_a_missing_library_is_named_with_the_line_to_write(tmp_path, monkeypatch):
    from sdediff.training.coupling import transported

    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"pip install 'sdediff\[metrics\]'"):
        transported(torch.zeros(2, 2), torch.zeros(2, 2))
