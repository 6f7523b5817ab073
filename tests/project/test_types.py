"""A user's script under mypy: right where it is right, an error at a misspelt name, a wrong keyword, a wrong type."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "typed" / "script.py"


def test_a_users_script_is_checked_by_the_types(tmp_path):
    options = ["--strict-optional", "--check-untyped-defs", "--hide-error-context", "--no-color-output"]
    cache = ["--config-file", "", "--cache-dir", str(tmp_path)]
    command = [sys.executable, "-m", "mypy", *options, *cache, "--follow-imports=silent", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True)
    reported: dict[int, str] = {}
    for line, message in re.findall(r"script\.py:(\d+): error: (.*)", done.stdout):
        reported[int(line)] = reported.get(int(line), "") + message
    expected = {
        i: line.partition("# error: ")[2]
        for i, line in enumerate(SCRIPT.read_text().splitlines(), 1)
        if "# error: " in line
    }
    assert len(expected) == 14
    assert reported.keys() == expected.keys(), done.stdout
    for line, message in expected.items():
        assert message in reported[line]
