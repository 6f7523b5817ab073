"""The sweep as a job: equal bytes however it is computed or interrupted, and what its files say."""

import json

import pytest
from pyarrow import parquet

import sdediff as sd
from sdediff import cli
from sdediff.benchmark import Report, reading, sweep_work
from sdediff.jobs import JobError, job_status, verify_job
from tests.benchmark.small import tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a sweep in one go, and the bytes of its cells."""
    path = tmp_path_factory.mktemp("whole") / "out"
    tiny(path)
    return path, (path / "cells.parquet").read_bytes()


def test_two_runs_with_one_seed_give_the_same_bytes_and_other_seeds_other_numbers(whole, tmp_path):
    tiny(tmp_path / "again")
    assert (tmp_path / "again" / "cells.parquet").read_bytes() == whole[1]
    other = tiny(tmp_path / "other", seed=7)
    first = Report.load(whole[0])
    assert all(a.quality != b.quality for a, b in zip(first.rows, other.rows, strict=True))


def test_two_workers_give_the_same_bytes(whole, tmp_path):
    tiny(tmp_path, workers=2)
    assert (tmp_path / "cells.parquet").read_bytes() == whole[1]


def test_parts_give_the_same_bytes(whole, tmp_path):
    reports = [tiny(tmp_path, part=f"{i}/3") for i in (2, 0, 1)]
    assert [report.finished for report in reports] == [False, False, True]
    assert len(reports[0].cells) == 3
    assert (tmp_path / "cells.parquet").read_bytes() == whole[1]
    assert all(cell.seconds for cell in reports[-1].cells if cell.calls)


def test_parts_in_folders_of_their_own_are_merged_by_the_jobs_command(whole, tmp_path, capsys):
    for i in (0, 1):
        tiny(tmp_path / f"part{i}", part=f"{i}/2")
    assert job_status(tmp_path / "part0").units_done == 5
    assert cli.main(["jobs", "merge", str(tmp_path / "part0"), str(tmp_path / "part1")]) == 0
    assert (tmp_path / "part0" / "cells.parquet").read_bytes() == whole[1]
    report = Report.load(tmp_path / "part0")  # without the files that a finished run adds
    assert report.finished
    assert all(cell.seconds for cell in report.cells if cell.calls)


def test_an_interrupted_sweep_continues_to_the_same_bytes(whole, tmp_path, monkeypatch):
    computed = []
    measured = sweep_work.SweepWork.cell

    def stopping(work, unit):
        if len(computed) == 4:
            raise KeyboardInterrupt
        computed.append(unit)
        return measured(work, unit)

    monkeypatch.setattr(sweep_work.SweepWork, "cell", stopping)
    with pytest.raises(KeyboardInterrupt):
        tiny(tmp_path)
    assert [cell.index for cell in Report.load(tmp_path).cells] == [0, 1, 2, 3]
    monkeypatch.setattr(sweep_work.SweepWork, "cell", measured)
    tiny(tmp_path)
    assert (tmp_path / "cells.parquet").read_bytes() == whole[1]


def test_more_seeds_go_on_where_the_sweep_ended(whole, tmp_path):
    tiny(tmp_path, seeds=1)
    times = reading.read_times(tmp_path)
    tiny(tmp_path, seeds=2)
    assert (tmp_path / "cells.parquet").read_bytes() == whole[1]
    again = reading.read_times(tmp_path)
    assert {k: again[k] for k in times} == times


def test_another_sweep_in_the_folder_is_refused_with_what_differs(whole):
    with pytest.raises(JobError, match=r"calls"):
        tiny(whole[0], calls=(3, 5))


def test_a_damaged_result_is_named_and_computed_again(whole, tmp_path, capsys):
    tiny(tmp_path)
    assert verify_job(tmp_path) == []
    path = tmp_path / "cells.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert "cells.parquet is not what was written" in verify_job(tmp_path)[0]
    tiny(tmp_path)
    assert path.read_bytes() == whole[1]


def test_files_say_what_was_run_with_what(whole):
    about = json.loads(parquet.read_schema(whole[0] / "cells.parquet").metadata[b"sdediff"])
    assert about["settings"]["entries"]["ddim"] == repr(sd.solver("ddim"))
    assert "VP(beta_min=0.1" in about["model"]["target_m"]["summary"]
    assert about["settings"]["versions"]["sdediff"] == sd.__version__
    summary = json.loads((whole[0] / "summary.json").read_text())
    assert {"cpu", "cores", "threads", "platform", "date"} <= set(summary["machine"])
    assert summary["git"] is None or len(summary["git"]["commit"]) == 40
    assert summary["seconds"] > 0
    times = json.loads(parquet.read_schema(whole[0] / "times.parquet").metadata[b"sdediff"])
    assert times["machine"] == summary["machine"]
