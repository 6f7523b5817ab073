"""Damage to the files of a job: nothing is silent, everything can be finished."""

import json
import random
import shutil

import pytest

from sdediff._utils.errors import Error
from sdediff.jobs import JobError
from sdediff.jobs.journal import Journal, Line
from sdediff.jobs.manifest import stored_manifest
from tests.jobs.squares import compute, squares

LINE = Line(3, (12, 16), 40, "a" * 64, ("b" * 64,), 0.5, {"power": 2})


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A job that was interrupted after eight of ten shards, and the bytes of its result."""
    out = tmp_path_factory.mktemp("stopped")
    compute(squares(), out / "whole")
    with pytest.raises(KeyboardInterrupt):
        compute(squares(stop=33), out / "half")
    return out


def flipped(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(bytes(content))


def flips(stopped, out, count, seed):
    """Flip one random bit of a shard, the journal or a result at a time, and finish the job each time."""
    draws, silent, whole = random.Random(seed), 0, (stopped / "whole/squares.parquet").read_bytes()
    for at in range(count):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(stopped / ("whole" if at % 3 == 0 else "half"), out)
        files = [out / "squares.parquet"] if at % 3 == 0 else sorted((out / "shards").glob("*.parquet"))
        damaged = out / "journal.jsonl" if at % 3 == 2 else draws.choice(files)
        flipped(damaged, draws.randrange(8 * damaged.stat().st_size))
        said, work = [], squares()
        assert compute(work, out, said).finished
        assert (out / "squares.parquet").read_bytes() == whole
        silent += not any("damaged" in line for line in said)
    return silent


def test_flipped_bits_are_named_and_the_job_is_finished_to_the_same_bytes(stopped, tmp_path):
    # A flip in the journal's last line end is a line that was cut off, which is no damage.
    assert flips(stopped, tmp_path / "out", 24, 0) == 0


@pytest.mark.slow
def test_two_hundred_flipped_bits(stopped, tmp_path):
    assert flips(stopped, tmp_path / "out", 200, 1) == 0


def test_a_damaged_result_is_cut_into_shards_again_and_only_the_damage_computed(stopped, tmp_path):
    shutil.copytree(stopped / "whole", tmp_path / "out")
    result = tmp_path / "out/squares.parquet"
    result.write_bytes(result.read_bytes() + b"x")
    work = squares()
    compute(work, tmp_path / "out")
    assert sum(map(len, work.seen)) == 40  # the end of the file is gone, and with it all of it
    shutil.rmtree(tmp_path / "out/shards", ignore_errors=True)
    assert result.read_bytes() == (stopped / "whole/squares.parquet").read_bytes()
    (tmp_path / "out/manifest.json").write_text((stopped / "half/manifest.json").read_text())
    again = squares()
    compute(again, tmp_path / "out")
    assert result.read_bytes() == (stopped / "whole/squares.parquet").read_bytes()


def test_shards_under_each_other_s_names_are_computed_again(stopped, tmp_path):
    shutil.copytree(stopped / "half", tmp_path / "out")
    one, two = (tmp_path / f"out/shards/00000{n}.parquet" for n in (1, 2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    said, work = [], squares()
    compute(work, tmp_path / "out", said)
    assert sum("is damaged or of another job" in line for line in said) == 2
    assert (tmp_path / "out/squares.parquet").read_bytes() == (stopped / "whole/squares.parquet").read_bytes()
    assert {4, 8} <= {units[0] for units in work.seen}


def test_what_a_killed_process_left_unfinished_is_swept(stopped, tmp_path):
    shutil.copytree(stopped / "half", tmp_path / "out")
    leftovers = [tmp_path / f"out/shards/.{n:06d}.parquet.host.7.part" for n in (3, 9)]
    leftovers.append(tmp_path / "out/.squares.parquet.host.7.part")
    for path in leftovers:
        path.write_bytes(b"half")
    compute(squares(), tmp_path / "out")
    assert not any(path.exists() for path in leftovers)


def test_a_line_reads_itself_and_nothing_else(tmp_path):
    assert Line.of(LINE.text()) == LINE
    text = LINE.text()
    for wrong in (
        text[:-4],
        text.replace('"n": 3', '"n": 4'),
        "[]",
        "{}",
        "null",
        "7",
        "[" * 100_000,
        text.replace("b", "c"),
    ):
        assert Line.of(wrong) is None
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(LINE)
    with journal.path.open("ab") as file:
        file.write(text[:30].encode())
    journal.append(LINE)
    said = []
    assert journal.read(said.append) == [LINE, LINE]
    assert said == [f"{journal.path}: 1 damaged lines: their shards are computed again"]


def mutated(text, draws):
    """The text with one of many kinds of damage."""
    at, kind = draws.randrange(len(text)), draws.randrange(7)
    if kind == 0:
        return text[:at]
    if kind == 1:
        return text[:at] + chr(draws.randrange(1, 256)) + text[at + 1 :]
    if kind == 2:
        return text[:at] + draws.choice(["[" * 100_000, "{}", "null", '"', "1e999", "-1", "\0"]) + text[at:]
    try:
        content = json.loads(text.splitlines()[0] if kind == 3 else text)
        key = draws.choice(list(content))
        content[key] = draws.choice([None, -1, 10**30, "x", [], {}, True, 1.5, ["a"], {"a": {"b": 1}}])
        return json.dumps(content) + "\n"
    except ValueError:
        return text[at:] + text[:at]


def _refusal(out):
    try:
        compute(squares(), out)
    except Error as error:
        return str(error)
    return None


def fuzzed(stopped, out, count, seed):
    """Mutate manifest or journal, run the job, and count what happened: refused in a sentence, or finished right."""
    draws, whole = random.Random(seed), (stopped / "whole/squares.parquet").read_bytes()
    for at in range(count):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(stopped / draws.choice(["whole", "half"]), out)
        path = out / ("manifest.json" if at % 2 else "journal.jsonl")
        path.write_text(mutated(path.read_text(), draws), encoding="utf-8", errors="replace")
        refused = _refusal(out)
        if refused is None:
            assert (out / "squares.parquet").read_bytes() == whole
        else:
            assert at % 2, "a journal can always be done without"
            assert "\n" not in refused


def test_mutated_manifests_and_journals_are_refused_in_a_sentence_or_done_without(stopped, tmp_path):
    fuzzed(stopped, tmp_path / "out", 60, 0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_four_thousand_mutated_manifests_and_journals(stopped, tmp_path):
    fuzzed(stopped, tmp_path / "out", 4000, 1)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format": 2}', '{"format": "x"}'])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(JobError, match="is not a job's manifest"):
        stored_manifest(tmp_path)
