"""The files around the package agree with each other and with the package."""

import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sdediff

ROOT = Path(__file__).parents[2]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
}


def test_readme_commands_set_up_their_own_environment():
    # .ci/run takes the second line from the README, so what a newcomer types is what is checked.
    setup = "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt"
    lines = (ROOT / "README.md").read_text().splitlines()
    assert f"{setup} . && .venv/bin/sdediff bench" in lines
    assert f"{setup} -e '.[test]' && .venv/bin/python -m pytest" in lines


def test_one_version_everywhere():
    newest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert (newest[1], cited[1]) == (sdediff.__version__, sdediff.__version__)
    tags = subprocess.run(["git", "tag", "--points-at", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert [tag for tag in tags.stdout.split() if tag.startswith("v")] in ([], [f"v{sdediff.__version__}"])


@pytest.mark.parametrize("line", requires("sdediff") or [])
def test_pin_lies_in_the_stated_range(line):
    requirement = Requirement(line)
    pin = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin), f"constraints.txt has {pin}, pyproject.toml {line}"


def test_every_room_has_a_page_in_the_reference():
    pages = (ROOT / "docs" / "_extensions" / "api_pages.py").read_text()
    topics = set(re.findall(r'^    "(\w+)": "', pages, re.M))
    rooms = {path.parent.name for path in (ROOT / "sdediff").glob("*/__init__.py")}
    assert topics == rooms - {"cli", "_utils"}
    listed = set(re.findall(r"^api/(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.M))
    assert listed == topics | {"errors"}
