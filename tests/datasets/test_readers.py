"""Files of every format, there and back."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from sdediff.datasets import DataError, read
from tests.datasets.writers import DIGITS, write, write_idx, write_images, write_parquet

NAMES = [
    "a b.npy",
    "größe 数.npz",
    "train-images-idx3-ubyte",
    "x.idx",
    "t10k-images-idx3-ubyte.gz",
    "ordner mit é",
]


@pytest.mark.parametrize("name", NAMES)
def test_images_come_back_from_every_format(tmp_path, name):
    path = tmp_path / name
    write(path, DIGITS if path.suffix in (".npy", "") and "idx" not in name else DIGITS[:, 0])
    data = read(path, levels=17)
    assert data.shape == (1, 8, 8)
    assert np.array_equal(data.x, DIGITS)
    assert (data.levels, data.range, data.name) == (17, (0.0, 16.0), str(path))
    first = read(str(path), levels=17, limit=3)
    assert np.array_equal(first.x, DIGITS[:3])
    assert (read(path).levels, read(path).range) == (256, (0.0, 255.0))
    assert read(path, range=(0, 16)).levels == 17


def test_colour_images_have_their_channels_first(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 3, 5, 4), dtype=np.uint8)
    write_images(tmp_path / "rgb", x)
    (tmp_path / "rgb" / "._000.png").write_bytes(b"not an image")
    (tmp_path / "rgb" / "notes.txt").write_text("nor this")
    assert np.array_equal(read(tmp_path / "rgb").x, x)


def test_jpeg_files_are_read(tmp_path):
    (tmp_path / "j").mkdir()
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "j" / "A.JPG", format="JPEG")
    assert abs(read(tmp_path / "j").x.astype(int) - 200).max() <= 1


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("name", ["v-idx2", "v-idx2.gz"])
def test_idx_values_of_every_type(tmp_path, kind, name):
    x = np.arange(12).reshape(4, 3).astype(kind)
    write_idx(tmp_path / name, x)
    data = read(tmp_path / name, range=(0, 20))
    assert torch.equal(data.tensor(range=(0, 20), dtype=torch.float64).round(), torch.from_numpy(x).double().round())


def test_npy_and_idx_stay_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((10, 3)))
    write_idx(tmp_path / "x.idx", DIGITS[:, 0])
    for name in ("x.npy", "x.idx"):
        x = read(tmp_path / name).x
        assert isinstance(x, np.memmap)
        assert not x.flags.writeable


def test_fortran_order_and_single_columns(tmp_path):
    x = np.random.default_rng(0).standard_normal((6, 4))
    np.save(tmp_path / "f.npy", np.asfortranarray(x))
    np.save(tmp_path / "one.npy", x[:, 0])
    assert np.array_equal(read(tmp_path / "f.npy").x, x)
    assert np.array_equal(read(tmp_path / "one.npy").x, x[:, :1])


def test_parquet_columns(tmp_path):
    path = tmp_path / "t.parquet"
    write_parquet(path, {"a": [1.0, 2.0, 3.0], "name": ["x", "y", "z"], "b": [4, 5, 6], "c": [1.0, None, 2.0]})
    data = read(path, key="b,a", labels=[0, 1, 1], limit=2)
    assert np.array_equal(data.x, [[4, 1], [5, 2]])
    assert data.labels.tolist() == [0, 1]
    assert read(path, key="?", allow_bad=True).x.shape == (3, 3)
    with pytest.raises(DataError, match="row 1 holds NaN or Inf"):
        read(path, key="a,c")
    with pytest.raises(DataError, match=r"columns a, name, b, c: name those of a sample, such as key='a,b'"):
        read(path)
    with pytest.raises(DataError, match=r"no numeric column 'name'"):
        read(path, key="name")
    with pytest.raises(DataError, match=r"no numeric column 'bb'; did you mean 'b'\?"):
        read(path, key="bb")
    write_parquet(tmp_path / "words.parquet", {"name": ["x"]})
    with pytest.raises(DataError, match="no numeric column among name"):
        read(tmp_path / "words.parquet")
    write_parquet(tmp_path / "none.parquet", {"a": np.zeros(0)})
    with pytest.raises(DataError, match=r"empty, shape \(0, 1\)"):
        read(tmp_path / "none.parquet")


def test_npz_asks_for_the_key(tmp_path):
    path = tmp_path / "two.npz"
    np.savez(path, train_images=DIGITS, test_images=DIGITS[:5])
    assert len(read(path, key="test_images")) == 5
    with pytest.raises(DataError, match=r"several arrays \(train_images, test_images\): name one, as key='train_"):
        read(path)
    with pytest.raises(DataError, match=r"no array 'test_image'; did you mean 'test_images'\?"):
        read(path, key="test_image")
    np.savez(tmp_path / "no.npz")
    with pytest.raises(DataError, match="no array in this archive"):
        read(tmp_path / "no.npz")


def test_a_memory_mapped_set_larger_than_the_memory_taken(tmp_path):
    path = tmp_path / "x.npy"
    np.lib.format.open_memmap(path, "w+", np.float32, (1_000_000, 20)).flush()
    tracemalloc.start()
    data = read(path, levels=2)
    assert data.dequantised(index=[7, 999_999]).shape == (2, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 5


def test_importing_the_module_needs_torch_and_numpy_alone():
    code = (
        "import sys, sdediff.datasets\n"
        "print([m for m in ('PIL', 'pyarrow', 'ot', 'sklearn', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
