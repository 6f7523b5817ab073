"""The program: its help, its commands by name, and how it ends."""

import json
import subprocess
import sys

import pytest

import sdediff as sd
from sdediff.cli.output import plain


def test_help_names_every_command(run):
    code, out, _ = run()
    assert code == 0
    for name in ("solvers", "models", "sample", "likelihood", "bench", "check", "conformance"):
        assert name in out
        assert run(name, "--help")[0] == 0
    assert run("--version") == (0, f"sdediff {sd.__version__}\n", "")


def test_module_runs_as_a_program(home):
    def python(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "sdediff", *arguments], capture_output=True, text=True, cwd=home, check=False
        )

    done = python("solvers", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    assert {entry["name"] for entry in json.loads(done.stdout)} == set(sd.list_solvers())
    wrong = python("sample", "points", "--solver", "hun")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "sdediff: --solver: unknown solver 'hun': did you mean 'heun', 'unipc'?\n"


def test_ctrl_c_ends_with_130_and_one_line(run, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sd, "sample", interrupted)
    assert run("sample", "points", "--out", tmp_path) == (130, "", "sdediff: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_ours_is_one_line_and_with_debug_a_traceback(run, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(sd, "sample", broken)
    said = (1, "", "sdediff: ZeroDivisionError: by zero (SDEDIFF_DEBUG=1 shows where)\n")
    assert run("sample", "points", "--out", tmp_path) == said
    monkeypatch.setenv("SDEDIFF_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("sample", "points", "--out", tmp_path)


def test_plain_values_are_json():
    given = {"a": (1, float("nan")), "b": [float("inf"), None, True], 3: "x"}
    assert plain(given) == {"a": [1, None], "b": [None, None, True], "3": "x"}
