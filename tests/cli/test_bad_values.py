"""Values that nothing can be done with, for every command that takes such a value: one line, exit code 2."""

import random

import pytest

from sdediff.cli import main

LONG = "x" * 5000
PATHS = ["~nouser/x", LONG, "deep/" * 1500 + "x.npy", "", "a\0b"]
NUMBERS = ["nan", "inf", "-inf", "1e400", "", "1_0x", "99999999999999999999999"]

CASES = [
    *((["sample", path], "MODEL") for path in PATHS),
    *((["sample", "points", "-n", "2", "--out", path], "--out") for path in PATHS[:4]),
    *(([command, "points", "--config", path], "--config") for command in ("sample", "bench") for path in PATHS[:4]),
    (["sample", "points", "--config", "points"], "--config"),
    *((["jobs", command, path], "DIR") for command in ("status", "verify", "merge") for path in (*PATHS, "points")),
    *((["jobs", "merge", "points", path], "DIR") for path in PATHS[:3]),
    *((["sample", "points", "--threads", number], "--threads") for number in ("100000", "0", *NUMBERS[:3])),
    (["sample", "points", "-n", "9", "--shard", "7"], "--shard"),
    (["likelihood", "points", "points.npy", "--micro-batch", "0"], "--micro-batch"),
    *((["likelihood", "points", path], "DATA") for path in PATHS),
    *((["likelihood", path, "points.npy"], "MODEL") for path in PATHS),
    *((["likelihood", "points", "points.npy", "--compare", path], "--compare") for path in PATHS),
    *((["likelihood", "points", "points.npy", "--out", path], "--out") for path in PATHS[:4]),
    (["likelihood", "points", "points"], "DATA"),
    (["likelihood", "points", "/dev/null"], "DATA"),
    *((["recommend", path], "MODEL") for path in PATHS),
    (["recommend", "points.npy"], "MODEL"),
    *((["bench", "--targets", path], "--targets") for path in PATHS),
    *((["bench", "--targets", "ring", "--out", path], "--out") for path in PATHS[:4]),
    *((["conformance", path], "SOLVER") for path in (LONG, "~nouser:x", ":", "os:path", "")),
    *((["sample", "points", "--calls", number], "--calls") for number in NUMBERS),
    *((["sample", "points", "--steps", number], "--steps") for number in NUMBERS),
    *((["sample", "points", "-n", number], "-n") for number in NUMBERS[:-1]),
    *((["sample", "points", "--seed", number], "--seed") for number in NUMBERS),
    *((["sample", "points", "--threshold", number], "--threshold") for number in NUMBERS[:5]),
    *((["sample", "points", "--clip", f"{number},1"], "--clip") for number in NUMBERS[:4]),
    *((["sample", "points", "--shape", number], "--shape") for number in NUMBERS),
    *((["sample", "points", "--solver", "ddim", "--option", f"eta={n}"], "--option") for n in NUMBERS[:4]),
    *((["likelihood", "points", "points.npy", "--rtol", number], "--rtol") for number in NUMBERS[:5]),
    *((["likelihood", "points", "points.npy", "--t0", number], "--t0") for number in NUMBERS[:5]),
    *((["likelihood", "points", "points.npy", "--range", f"{n},1"], "--range") for n in NUMBERS[:2]),
    *((["likelihood", "points", "points.npy", "--threads", n], "--threads") for n in ("100000", "0", *NUMBERS)),
    *((["likelihood", "points", "points.npy", "--limit", n], "--limit") for n in ("0", "-1", *NUMBERS[:5])),
    *((["recommend", "points", "--starts", number], "--starts") for number in NUMBERS),
    *((["bench", "--targets", "ring", "--calls", number], "--calls") for number in NUMBERS[:6]),
    *((["bench", "--targets", "ring", "--samples", number], "--samples") for number in NUMBERS[:6]),
]


def one_line(code, out, err):
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("sdediff: ")
    assert "Traceback" not in err
    assert len(err) < 1500


@pytest.mark.parametrize(("arguments", "named"), CASES, ids=range(len(CASES)))
def test_it_is_refused_in_one_short_line(run, arguments, named):
    code, out, err = run(*arguments)
    one_line(code, out, err)
    assert named in err or "an empty text" in err


@pytest.mark.parametrize("option", ["--out=", "--grid="])
def test_empty_values_behind_an_equals_sign_too(run, option):
    assert run("sample", "points", option)[2].startswith(f"sdediff: {option[:-1]}: an empty text was given")


@pytest.mark.parametrize("command", ["status", "verify", "merge"])
def test_every_command_of_jobs_may_be_quiet(run, tmp_path, command):
    assert "--quiet" in run("jobs", command, "-h")[1]
    code, out, err = run("jobs", command, tmp_path, "--quiet")
    one_line(code, out, err)
    assert err.startswith("sdediff: DIR: ")


@pytest.mark.parametrize(
    "command", ["solvers", "models", "sample", "likelihood", "recommend", "bench", "check", "conformance", "train"]
)
def test_every_command_explains_itself_and_may_be_quiet(run, command):
    code, out, err = run(command, "-h")
    assert (code, err) == (0, "")
    assert "--quiet" in out
    assert "--verbose" in out


def test_a_quiet_command_writes_nothing_on_stderr_but_errors(run):
    code, out, err = run("recommend", "points", "--calls", "3", "--solver", "ddim", "--starts", "4", "--verbose")
    assert (code, "screening" in err) == (0, True)
    code, again, err = run(
        "recommend", "points", "--calls", "3", "--solver", "ddim", "--starts", "4", "--refresh", "--quiet"
    )
    assert (code, err) == (0, "")
    assert again.splitlines()[-1] == out.splitlines()[-1]
    one_line(*run("recommend", "points", "--calls", "3", "--solver", "dimm", "--quiet"))


TOML = """model = "points"
calls = 4
seed = 3
json = true
shape = "2"
[sample]
n = 2
solver = "ddim"
option = {eta = 0.5}
clip = [-1, 1]
out = "fuzzed"
[bench]
task = ["ring"]
"""


def mutated(text, rng):
    """The text with one to four random edits."""
    for _ in range(rng.randint(1, 4)):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        pieces = [
            "",
            "[",
            "]",
            "{",
            '"',
            "=",
            "\n",
            "\0",
            "nan",
            "inf",
            "-1",
            "1e999",
            "true",
            "9" * 30,
            text[at:to],
            "\ud7ff",
        ]
        text = text[:at] + rng.choice(pieces) + text[rng.choice([at, at + 1, min(to, at + 9)]) :]
    return text


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_mutated_config_files_run_or_are_refused_in_one_line(home, monkeypatch, capsys, count):
    """The command itself does nothing, so that only what reads and parses the file is looked at."""
    monkeypatch.chdir(home)
    monkeypatch.setattr("sdediff.cli.drawing._drawn", _nothing)
    rng, refused = random.Random(5), 0
    for _ in range(count):
        (home / "fuzz.toml").write_text(mutated(TOML, rng), encoding="utf-8")
        code = main(["sample", "--config", "fuzz.toml"])
        said = capsys.readouterr()
        if code:
            one_line(code, said.out, said.err)
            refused += 1
    assert refused > count / 3


def _nothing(model, shape, **options):
    import torch

    import sdediff as sd

    return sd.SampleRecord(torch.zeros(2, *shape[1:]), torch.ones(2), torch.zeros(2, 2, *shape[1:]), 4)
