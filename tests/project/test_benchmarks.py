"""Every script of benchmarks/ starts; what they measure takes too long for here."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "def main" in path.read_text())


def test_there_are_scripts():
    assert {"likelihood.py", "noise.py", "orders.py", "overhead.py", "parity.py", "quality.py"} <= set(SCRIPTS)


def test_every_script_and_every_record_is_on_the_page_of_measures():
    page = (FOLDER.parent / "docs" / "measures.md").read_text()
    records = [path.name for path in (FOLDER / "results").iterdir()]
    assert [name for name in (*SCRIPTS, *records) if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_how_it_is_used(name):
    asked = subprocess.run([sys.executable, FOLDER / name, "--help"], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    assert "usage" in asked.stdout
