"""Results of more rows than one file takes: a folder of Parquet files, verified and resumed as one file is."""

import numpy as np
import pytest
from pyarrow import parquet

import sdediff as sd
from sdediff.jobs import tables, verify_job
from sdediff.jobs.folder import file_hash
from sdediff.jobs.summary import paired, read_results
from tests.jobs.networks import QUICK, network
from tests.jobs.squares import compute, squares


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Row groups of 4 rows, files of 12, and folders above 20."""
    for name, value in (("_GROUP", 4), ("_FILE", 12), ("WHOLE", 20)):
        monkeypatch.setattr(tables, name, value)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_above_the_threshold_the_result_is_a_folder_whose_bytes_depend_on_the_values_alone(tmp_path):
    compute(squares(20), tmp_path / "few")
    assert (tmp_path / "few/squares.parquet").is_file()
    for name, shard in (("one", 4), ("two", 10)):
        compute(squares(42), tmp_path / name, shard=shard)
    one, two = (tmp_path / name / "squares.parquet" for name in ("one", "two"))
    assert names(one) == [f"{n:05d}.parquet" for n in range(4)]
    assert file_hash(one) == file_hash(two)
    table = parquet.read_table(one).to_pydict()  # as any reader of Parquet takes it
    assert table["index"] == list(range(42))
    assert table["square"] == [float(i * i) for i in range(42)]
    for rows in (range(3, 5), range(10, 30), range(41, 42), range(42)):
        assert tables.read_rows(one, rows).column("index").to_pylist() == list(rows)
    assert tables.read_columns(one, 5)["index"].tolist() == list(range(0, 42, 5))


def test_a_damaged_file_of_the_folder_is_named_and_computed_again(tmp_path):
    compute(squares(42), tmp_path)
    folder = tmp_path / "squares.parquet"
    before = file_hash(folder)
    assert verify_job(tmp_path) == []
    content = bytearray((folder / "00001.parquet").read_bytes())
    content[20] ^= 1
    (folder / "00001.parquet").write_bytes(bytes(content))
    assert "is not what was written" in verify_job(tmp_path)[0]
    said, work = [], squares(42)
    compute(work, tmp_path, said)
    assert "is damaged" in said[0]
    assert 0 < sum(map(len, work.seen)) <= 16  # of the damaged file alone
    assert file_hash(folder) == before
    (folder / "00009.parquet").write_bytes(b"of someone else")
    compute(squares(42), tmp_path)
    assert file_hash(folder) == before


def test_a_folder_that_was_left_unfinished_is_swept(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        compute(squares(42, stop=33), tmp_path)
    left = tmp_path / ".squares.parquet.host.7.part"
    left.mkdir()
    (left / "00000.parquet").write_bytes(b"half")
    compute(squares(42), tmp_path)
    assert not left.exists()
    assert verify_job(tmp_path) == []


def test_summaries_and_differences_are_those_of_one_file(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    options = {"micro_batch": 16, "progress": False, "say": lambda _: None, "check": False, **QUICK}

    def jobs(name):
        first = sd.likelihood_job(network(), rows, tmp_path / name, **options)
        sd.likelihood_job(network(seed=1), rows, tmp_path / name / "other", **options)
        return first, paired(tmp_path / name, tmp_path / name / "other")

    folder, one = jobs("folder")
    assert (tmp_path / "folder/likelihood.parquet").is_dir()
    monkeypatch.setattr(tables, "WHOLE", 100)
    whole, two = jobs("whole")
    assert (tmp_path / "whole/likelihood.parquet").is_file()
    assert folder.log_prob == whole.log_prob
    assert folder.log_prob_std_error == whole.log_prob_std_error
    assert one == two
    left, right = (read_results(tmp_path / "whole" / name)["log_prob"] for name in ("", "other"))
    assert one["log_prob"] == pytest.approx((right - left).mean())
    assert one["log_prob_std_error"] == pytest.approx((right - left).std(ddof=1) / 30**0.5)
    monkeypatch.setattr("sdediff.jobs.report._MOST", 10)
    sd.likelihood_job(network(), rows, tmp_path / "whole", **options)
    assert "<h2>Samples, one in 3</h2>" in (tmp_path / "whole/report.html").read_text()
