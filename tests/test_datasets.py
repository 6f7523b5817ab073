"""Data sets: every format there and back, the maps of integer levels, and one sentence for every fault."""

import contextlib
import gzip
import os
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdediff.datasets import DataError, DataSet, grid_image, read, save_grid

SHARED = Path(__file__).parents[2] / "shared" / "data"
DIGITS = np.random.default_rng(3).integers(0, 17, (40, 1, 8, 8), dtype=np.uint8)


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not in {SHARED}: the data sets of the workplace are not part of the project")
    return SHARED / name


def write_idx(path, values):
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[values.dtype.str[1:]]
    header = bytes([0, 0, code, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    content = header + values.astype(values.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_parquet(path, columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


def write_images(folder, images):
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(folder / f"{i:03}.png")


def write(path, x):
    if path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".npz":
        np.savez_compressed(path, x=x)
    elif "idx" in path.name:
        write_idx(path, x)
    else:
        write_images(path, x)


# --- maps ---------------------------------------------------------------------------------------------


def test_levels_go_to_the_centres_of_their_bins():
    k = np.arange(17, dtype=np.uint8)[:, None]
    data = DataSet(k, levels=17)
    assert data.range == (0.0, 16.0)
    torch.testing.assert_close(
        data.tensor(dtype=torch.float64), torch.from_numpy((2 * k + 1) / 17 - 1), rtol=0, atol=1e-15
    )
    unit = data.tensor(range=(0, 1))
    assert unit.dtype == torch.float32
    torch.testing.assert_close(unit, torch.from_numpy((k + 0.5) / 17).float())
    assert (data.shape, data.dims, len(data)) == ((1,), 1, 17)
    assert np.array_equal(data.integers([3, 5]), [[3], [5]])


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 1.0), (-3.0, 5.0)])
def test_dequantised_values_lie_in_their_bins_and_fill_them(bounds):
    data = DataSet(DIGITS, levels=17)
    x = data.dequantised(seed=1, range=bounds, dtype=torch.float64).numpy()
    within = (x - bounds[0]) / (bounds[1] - bounds[0]) * 17 - DIGITS
    assert within.min() > -1e-12
    assert within.max() < 1 + 1e-12
    count = within.size
    assert abs(within.mean() - 0.5) < 5 * (1 / 12 / count) ** 0.5
    assert abs(within.var() - 1 / 12) < 5 * (1 / 180 / count) ** 0.5


def test_dequantised_values_depend_on_the_seed_and_the_row_alone(monkeypatch):
    data = DataSet(DIGITS, levels=17)
    whole = data.dequantised(seed=5)
    order = np.random.default_rng(0).permutation(40)
    assert torch.equal(data.dequantised(seed=5, index=order), whole[order])
    assert torch.equal(torch.cat([data.dequantised(seed=5, index=[i]) for i in range(40)]), whole)
    monkeypatch.setattr("sdediff.datasets.checks._AT_ONCE", 3 * 64)
    assert torch.equal(data.dequantised(seed=5), whole)
    assert not torch.equal(data.dequantised(seed=6), whole)
    assert len(torch.unique(data.dequantised(seed=5) - data.tensor())) > 2500


def test_fractions_of_a_byte_are_levels_of_the_range_from_0_to_1():
    k = np.arange(256).reshape(-1, 1)
    fractions = DataSet((k / 255).astype(np.float32), levels=256, range=(0, 1))
    assert np.array_equal(fractions.integers(), k)
    assert torch.equal(fractions.tensor(), DataSet(k.astype(np.uint8), levels=256).tensor())


def test_continuous_data_are_mapped_from_their_declared_range_only():
    x = np.array([[0.0, 5.0], [10.0, 2.5]])
    expected = torch.tensor([[-1.0, 0.0], [1.0, -0.5]])
    assert torch.equal(DataSet(x, range=(0, 10)).tensor(), expected)
    assert torch.equal(DataSet(x).tensor(), torch.from_numpy(x).float())
    assert torch.equal(DataSet(torch.from_numpy(x).bfloat16()).tensor(), torch.from_numpy(x).float())
    for ask in (DataSet(x).dequantised, DataSet(x).integers):
        with pytest.raises(DataError, match=r"continuous data have no .*: declare levels="):
            ask()


def test_a_split_has_every_row_once_and_the_same_rows_again():
    data = DataSet(np.arange(50.0)[:, None], labels=np.arange(50), name="rows")
    train, test = data.split(0.2, seed=3)
    assert (len(train), len(test), test.name) == (40, 10, "rows:test")
    assert sorted([*train.labels, *test.labels]) == list(range(50))
    assert np.array_equal(test.x[:, 0], test.labels)
    assert np.array_equal(data.split(0.2, seed=3)[1].labels, test.labels)
    assert not np.array_equal(data.split(0.2, seed=4)[1].labels, test.labels)
    with pytest.raises(DataError, match=r"fraction=0.001 of 50 rows leaves one part empty"):
        data.split(0.001)


def test_bad_rows_are_named_or_kept():
    x = np.ones((6, 2))
    x[2, 0], x[4, 1] = np.nan, np.inf
    with pytest.raises(DataError, match=r"^set: row 2 holds NaN or Inf \(2 such rows of 6\).*allow_bad=True"):
        DataSet(x, name="set")
    kept = DataSet(x, levels=3, allow_bad=True)
    assert kept.bad_rows == (2, 4)
    assert torch.isfinite(kept.dequantised()).all(dim=1).tolist() == [True, True, False, True, False, True]
    assert np.array_equal(kept.integers([0, 5]), np.ones((2, 2)))
    with pytest.raises(DataError, match="row 2 holds NaN or Inf"):
        kept.integers()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": np.zeros((0, 8))}, r"empty, shape \(0, 8\)"),
        ({"x": np.zeros((4, 0))}, r"empty, shape \(4, 0\)"),
        ({"x": np.zeros(4)}, r"shape \(4,\): give \(N, ...\)"),
        ({"x": np.array([["a"]])}, "type <U1: give integers or real numbers"),
        ({"x": np.array([[17.0]]), "levels": 17}, r"values in \[17, 17\] leave .* \[0, 16\] of 17 levels"),
        (
            {"x": np.array([[3]]), "range": (5, 9)},
            r"values in \[3, 3\] leave the declared range \[5, 9\]: give",
        ),
        ({"x": DIGITS, "levels": 16}, r"values in \[0, 16\] leave the declared range \[0, 15\] of 16 levels"),
        (
            {"x": np.array([[1.0], [0.5]]), "levels": 17},
            r"row 1 holds values between the levels .* \[0, 16\]",
        ),
        ({"x": np.ones((2, 2)), "levels": 1}, "levels=1: give an integer >= 2"),
        ({"x": np.ones((2, 2)), "levels": 2.5}, "levels=2.5: give an integer"),
        (
            {"x": np.ones((2, 2)), "range": (1, 0)},
            r"range=\(1, 0\): give two finite numbers, the lower first",
        ),
        ({"x": np.ones((2, 2)), "range": 3}, "range=3: give two finite numbers"),
        ({"x": np.ones((2, 2)), "labels": [1]}, "1 labels for 2 samples"),
    ],
)
def test_what_a_set_refuses(given, message):
    with pytest.raises(DataError, match=message) as caught:
        DataSet(**given, name="my.npy")
    assert str(caught.value).startswith("my.npy: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", [[-1], [40], [0.5], [True], [[1]]])
def test_rows_that_are_not_there_are_refused(index):
    with pytest.raises(DataError, match="index"):
        DataSet(DIGITS, levels=17).tensor(index=index)


def test_one_row_and_no_row_may_be_asked_for():
    data = DataSet(DIGITS, levels=17)
    assert torch.equal(data.tensor(index=np.int64(3)), data.tensor()[3:4])
    assert data.tensor(index=[]).shape == (0, 1, 8, 8)


# --- files --------------------------------------------------------------------------------------------

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
    assert read(path, allow_bad=True).x.shape == (3, 3)
    with pytest.raises(DataError, match="row 1 holds NaN or Inf"):
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


def test_a_missing_library_is_named_with_the_line_to_write(tmp_path, monkeypatch):
    from sdediff.metrics.distances.distances import sliced_wasserstein

    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"pip install 'sdediff\[metrics\]'"):
        sliced_wasserstein(np.zeros((20, 2)), np.zeros((20, 2)))


# --- the sets of the workplace ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_files(name):
    labels = read(shared(f"{name}-t10k-labels-idx1-ubyte.gz")).x[:, 0]
    data = read(shared(f"{name}-t10k-images-idx3-ubyte.gz"), labels=labels, limit=500)
    assert (data.shape, data.levels, len(data), data.labels.shape) == ((1, 28, 28), 256, 500, (500,))
    assert (labels[:3].tolist(), len(labels)) == (
        {"mnist": [7, 2, 1], "fashion-mnist": [9, 2, 1]}[name],
        10_000,
    )


def test_uci_files():
    magic = read(shared("uci_magic.npz"), key="x")
    assert (magic.x.shape, magic.levels) == ((19020, 10), None)
    digits = read(shared("uci_optdigits_8x8.npz"), key="test_images", levels=17)
    assert (digits.x.shape, digits.range) == ((1797, 1, 8, 8), (0.0, 16.0))
    assert np.array_equal(np.unique(digits.integers()), np.arange(17))


# --- pictures -----------------------------------------------------------------------------------------


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
