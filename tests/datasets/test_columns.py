"""Which columns of a file are read, and columns beside the data: labels and conditions."""

import numpy as np
import pytest

from sdediff._utils.errors import DataWarning
from sdediff.datasets import DataError, column, read
from tests.datasets.writers import DIGITS, write, write_parquet

ROWS = np.random.default_rng(1).standard_normal((40, 6))
LABELS = np.arange(40) % 10


def arrow(values, kind):
    import pyarrow as pa

    flat = pa.array(values.ravel())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if kind == "list":
        return pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1], flat)
    if kind == "nested":
        return pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, 3), 2)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(values.reshape(-1, 2, 3))


@pytest.mark.parametrize(("kind", "shape"), [("fixed", (6,)), ("list", (6,)), ("nested", (2, 3)), ("tensor", (2, 3))])
def test_a_column_of_arrays_is_read_and_what_is_left_aside_is_said(tmp_path, kind, shape):
    path = tmp_path / "t.parquet"
    write_parquet(path, {"label": LABELS, "x": arrow(ROWS, kind), "file": [str(i) for i in range(40)]})
    with pytest.warns(DataWarning, match=r"t\.parquet: column x is read and label, file left aside"):
        data = read(path)
    assert np.array_equal(data.x, ROWS.reshape(40, *shape))
    assert np.array_equal(read(f"{path}:x", labels="label").labels, LABELS)
    assert column(path, "label").dtype.kind == "i"


def test_scalar_columns_are_taken_together_where_all_are_real_numbers(tmp_path):
    path = tmp_path / "t.parquet"
    write_parquet(path, {f"p{i}": ROWS[:, i] for i in range(6)})
    assert np.array_equal(read(path).x, ROWS)
    write_parquet(path, {"y": LABELS * 1.0, **{f"p{i}": ROWS[:, i] for i in range(6)}})
    with pytest.raises(DataError, match=r"columns y, p0, p1, .*: name those of a sample, such as key="):
        read(path)
    assert np.array_equal(read(path, key="p*").x, ROWS)
    assert np.array_equal(read(f"{path}:p1,p0").x, ROWS[:, [1, 0]])
    write_parquet(path, {"a": arrow(ROWS, "list"), "b": arrow(ROWS, "list")})
    with pytest.raises(DataError, match=r"columns a, b: name those of a sample"):
        read(path)
    with pytest.raises(DataError, match=r"column 'a' holds lists: name it alone"):
        read(path, key="a,b")
    with pytest.raises(DataError, match=r"key='x' beside 'a' in the path"):
        read(f"{path}:a", key="x")


def test_lists_of_unlike_lengths_and_nulls_are_named(tmp_path):
    path = tmp_path / "t.parquet"
    write_parquet(path, {"x": [[1.0, 2.0], [3.0, 4.0], [5.0]]})
    with pytest.raises(DataError, match=r"row 2 of column 'x' has another length than row 0, whose shape is \(2,\)"):
        read(path)
    write_parquet(path, {"x": [[1.0, 2.0], None, [5.0, 6.0]]})
    with pytest.raises(DataError, match=r"row 1 of column 'x' is null"):
        read(path)
    write_parquet(path, {"x": [[1, 2], [None, 3]]})
    with pytest.raises(DataError, match=r"nulls within column 'x'"):
        read(path)
    write_parquet(path, {"k": [1, None, 3]})
    with pytest.raises(DataError, match=r"row 1 of column 'k' is null: fill it in"):
        read(path)


def test_the_only_array_of_samples_in_an_archive_is_read(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, seed=3, labels=LABELS, x=DIGITS)
    with pytest.warns(DataWarning, match=r"s\.npz: x is read and seed, labels left aside"):
        data = read(path, levels=17)
    assert np.array_equal(data.x, DIGITS)
    assert np.array_equal(read(f"{path}:x", levels=17, labels="labels", limit=7).labels, LABELS[:7])


def test_conditions_come_from_the_same_file_or_another_with_as_many_rows(tmp_path):
    np.savez(tmp_path / "d.npz", x=ROWS, label=LABELS)
    np.save(tmp_path / "d.npy", ROWS)
    np.save(tmp_path / "other.npy", LABELS)
    write_parquet(tmp_path / "c.parquet", {"label": LABELS, "text": arrow(ROWS, "list")})
    write(tmp_path / "l-idx1", LABELS.astype(np.uint8))
    for data, given in (
        ("d.npz", "label"),
        ("d.npz", tmp_path / "other.npy"),
        ("d.npy", f"{tmp_path}/c.parquet:label"),
        ("d.npz:x", tmp_path / "l-idx1"),
    ):
        found = column(tmp_path / data, given)
        assert np.array_equal(found, LABELS)
        assert found.dtype.kind in "iu"
    assert np.array_equal(column(tmp_path / "d.npy", f"{tmp_path}/c.parquet:text", limit=3), ROWS[:3])
    assert np.array_equal(column(read(tmp_path / "d.npy"), tmp_path / "other.npy"), LABELS)
    assert np.array_equal(column(read(f"{tmp_path}/d.npz", key="x"), "label"), LABELS)


def test_conditions_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "d.npy", ROWS)
    np.savez(tmp_path / "d.npz", x=ROWS, label=LABELS)
    np.save(tmp_path / "few.npy", LABELS[:7])
    with pytest.raises(DataError, match=r"few\.npy: 7 rows for the 40 of the data: give one for each"):
        column(tmp_path / "d.npy", tmp_path / "few.npy")
    with pytest.raises(DataError, match=r"d\.npy has no column 'label': give a file with a row for each row"):
        column(tmp_path / "d.npy", "label")
    with pytest.raises(DataError, match=r"no array 'lable'; did you mean 'label'\?"):
        column(tmp_path / "d.npz", "lable")
    with pytest.raises(DataError, match=r"absent\.npy: no such file or folder"):
        column(tmp_path / "d.npz", "absent.npy")
    with pytest.raises(DataError, match="limit=0"):
        column(tmp_path / "d.npz", "label", limit=0)
