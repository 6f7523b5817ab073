"""The layer of jobs on a work without a network: values, resumption, failures, growth, input that changes."""

import json
import time

import numpy as np
import pytest
from pyarrow import parquet

from sdediff.jobs import JobError, estimate
from sdediff.jobs.errors import InputChanged
from sdediff.jobs.part import Part
from tests.jobs.squares import Squares, compute, squares


def table(out):
    return parquet.read_table(out / "squares.parquet").to_pydict()


def test_every_unit_is_there_once_and_in_order(tmp_path):
    compute(squares(41), tmp_path)
    assert table(tmp_path)["index"] == list(range(41))
    assert table(tmp_path)["square"] == [float(i * i) for i in range(41)]
    left = sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("."))
    assert left == ["journal.jsonl", "manifest.json", "squares.parquet"]


@pytest.mark.parametrize("shard", [2, 8, 64, None])
def test_the_bytes_do_not_depend_on_the_size_of_shards(tmp_path, shard):
    compute(squares(), tmp_path / "one")
    compute(squares(), tmp_path / "two", shard=shard)
    assert (tmp_path / "one/squares.parquet").read_bytes() == (tmp_path / "two/squares.parquet").read_bytes()


def test_an_interrupted_job_computes_only_what_is_missing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        compute(squares(stop=17), tmp_path)
    said, again = [], squares()
    compute(again, tmp_path, said)
    assert said == ["begun before: 4 of 10 shards, 16 of 40 rows, are done"]
    assert min(min(units) for units in again.seen) == 16
    compute(squares(), tmp_path / "whole")
    assert (tmp_path / "squares.parquet").read_bytes() == (tmp_path / "whole/squares.parquet").read_bytes()
    said.clear()
    last = squares()
    assert compute(last, tmp_path, said).finished
    assert (last.seen, said) == ([], ["begun before: all 40 rows are done"])


def test_a_signal_just_after_a_line_was_written_counts_that_shard(tmp_path, monkeypatch):
    from sdediff.jobs.errors import Stopped
    from sdediff.jobs.journal import Journal

    append = Journal.append

    def stopping(journal, line, durable=True):
        append(journal, line, durable)
        if line.n == 2:
            raise Stopped(2)

    monkeypatch.setattr(Journal, "append", stopping)
    with pytest.raises(Stopped, match="3 of 10 shards, 12 of 40 rows, are done"):
        compute(squares(), tmp_path)


def test_the_seconds_of_the_first_micro_batch_are_counted(tmp_path):
    class Slow(Squares):
        def batch(self, content, units):
            time.sleep(0.05)
            return super().batch(content, units)

    compute(Slow(np.arange(8.0)), tmp_path, shard=8)
    assert json.loads((tmp_path / "manifest.json").read_text())["result"]["seconds"] >= 4 * 0.05


def test_parts_share_the_shards_and_the_last_merges(tmp_path):
    whole = tmp_path / "whole"
    compute(squares(), whole)
    works = [squares() for _ in range(3)]
    ends = [compute(work, tmp_path / "parts", part=Part(i, 3)) for i, work in enumerate(works)]
    assert [end.finished for end in ends] == [False, False, True]
    assert (tmp_path / "parts/squares.parquet").read_bytes() == (whole / "squares.parquet").read_bytes()
    computed = sorted({unit for work in works[1:] for units in work.seen for unit in units})
    assert computed == [i for i in range(40) if i // 4 % 3 != 0]
    one, other = (json.loads((f / "manifest.json").read_text()) for f in (whole, tmp_path / "parts"))
    assert one["data"]["sha256"] == other["data"]["sha256"]


def test_units_that_fail_are_found_one_by_one_and_the_others_kept(tmp_path):
    said = []
    compute(squares(breaks=(9, 30)), tmp_path, said)
    found = table(tmp_path)
    assert [i for i, v in enumerate(found["square"]) if v is None] == [9, 30]
    assert found["status"][9] == "failed: ValueError: this unit breaks"
    assert found["square"][8] == 64.0
    assert said == [f"row {n} failed: ValueError: this unit breaks" for n in (9, 30)]


def test_a_work_that_fails_throughout_is_an_error_and_leaves_nothing(tmp_path):
    work = squares(breaks=range(40))
    with pytest.raises(ValueError, match="this unit breaks"):
        compute(work, tmp_path)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []
    assert sum(map(len, work.seen)) <= 60
    compute(squares(breaks=range(40)), tmp_path, keep=True)
    assert set(table(tmp_path)["square"]) == {None}


@pytest.mark.parametrize("kept", [True, False])
def test_a_job_may_grow_and_keeps_its_whole_shards(tmp_path, kept):
    compute(squares(18), tmp_path)
    if not kept:
        (tmp_path / "squares.parquet").unlink()
    grown = squares(30)
    compute(grown, tmp_path)
    assert min(min(units) for units in grown.seen) == (16 if kept else 0)
    compute(squares(30), tmp_path / "whole")
    assert (tmp_path / "squares.parquet").read_bytes() == (tmp_path / "whole/squares.parquet").read_bytes()
    with pytest.raises(JobError, match=r"data\.rows is 30 there and 18 now"):
        compute(squares(18), tmp_path)


def test_input_that_changed_between_two_runs_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        compute(squares(stop=17), tmp_path)
    work = squares()
    work.numbers[3] = 7.0
    with pytest.raises(JobError, match=r"data\.sha256 is .* there and .* now \(rows 0 to 3\)"):
        compute(work, tmp_path)
    compute(squares(), tmp_path)
    with pytest.raises(JobError, match=r"data\.sha256"):
        compute(work, tmp_path)


def test_input_that_changes_meanwhile_is_noticed_before_it_is_used(tmp_path):
    class Changing(Squares):
        def batch(self, content, units):
            if 8 in units:
                self.numbers[20] = -1.0
            return super().batch(content, units)

    work = Changing(np.arange(40.0))
    with pytest.raises(InputChanged, match="input of rows 16 to 19 changed while the job ran"):
        compute(work, tmp_path)
    assert max(max(units) for units in work.seen) == 15
    assert not (tmp_path / "squares.parquet").exists()


def test_memory_that_runs_out_halves_the_micro_batch_for_all_that_follows(tmp_path):
    class Small(Squares):
        def batch(self, content, units):
            if len(units) > 2 and 16 in units:
                raise MemoryError
            return super().batch(content, units)

    said, work = [], Small(np.arange(40.0))
    compute(work, tmp_path, said, micro_batch=8, shard=8)
    assert said == [f"memory ran out: {n} samples at a time from here on" for n in (4, 2)]
    assert [len(units) for units in work.seen] == [8, 8] + [2] * 12
    assert table(tmp_path)["square"] == [float(i * i) for i in range(40)]


def test_a_folder_of_another_work_or_shard_is_refused(tmp_path):
    compute(squares(), tmp_path)
    work = squares()
    work.name = "cubes"
    with pytest.raises(JobError, match="another job: of squares, not of cubes"):
        compute(work, tmp_path)
    with pytest.raises(JobError, match="shard is 4 there and 8 now"):
        compute(squares(), tmp_path, shard=8)


def test_an_estimate_comes_from_one_micro_batch_and_shards_are_of_minutes(monkeypatch):
    now = iter(range(0, 100, 2))  # a micro-batch of 2 takes two seconds
    monkeypatch.setattr("sdediff.jobs.planning.time.perf_counter", lambda: float(next(now)))
    work = squares(100_000)
    found = estimate(work, 2)
    assert work.seen == [[0, 1]]
    assert (found.unit_seconds, found.seconds) == (1.0, 100_000.0)
    assert (found.shard, found.shards) == (256, 391)  # the largest power of two micro-batches within 300 s
    assert estimate(squares(64), 2).shard == 4  # a short job: five seconds
    assert estimate(squares(64), 2, shard=8).shards == 8


def test_row_groups_do_not_depend_on_the_tables_that_they_are_cut_from(tmp_path, monkeypatch):
    import pyarrow as pa

    from sdediff.jobs import tables

    monkeypatch.setattr(tables, "_GROUP", 10)
    whole = pa.table({"index": list(range(37))})
    for name, step in (("a", 1), ("b", 3), ("c", 25), ("d", 37)):
        cuts = (whole.slice(start, step) for start in range(0, 37, step))
        tables.write_parquet(cuts, whole.schema, tmp_path / name)
        assert parquet.ParquetFile(tmp_path / name).num_row_groups == 4
        assert (tmp_path / name).read_bytes() == (tmp_path / "a").read_bytes()
    assert tables.read_rows(tmp_path / "a", range(8, 31)).column("index").to_pylist() == list(range(8, 31))
