"""What `python -m build` packs: sources for those who build, the package alone for those who install.

SDEDIFF_DIST names a folder that holds both; without it they are built first.
"""

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import sdediff
from tests.project.pages import ROOT

pytestmark = pytest.mark.slow  # .ci/run builds and reads them in a stage of its own


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    given = os.environ.get("SDEDIFF_DIST")
    if given:
        return Path(given)
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "-o", str(out), str(ROOT)], check=True)
    return out


def test_the_wheel_holds_the_package_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top.split("-")[0] for top in tops} == {"sdediff"}
    assert not [name for name in names if "test" in Path(name).name and "testing/" not in name]
    for needed in ("sdediff/py.typed", "sdediff/assets/digits-vp/model.safetensors", "sdediff/assets/digits.npz"):
        assert needed in names
    assert wheel.stat().st_size < 30e6


def test_links_of_the_readme_work_on_a_package_index(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        about = email.message_from_bytes(archive.read(name))
    links = re.findall(r"\]\(([^)]+)\)", about.get_payload())
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", about.get_payload())
    assert all("/raw/" in link for link in pictures)
    assert about["Version"] == sdediff.__version__


def test_the_source_archive_holds_what_a_developer_needs(dist):
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    for needed in (
        *("docs/index.md", "docs/conf.py", "docs/extending.md", "tests/conftest.py", "benchmarks/README.md", ".ci/run"),
        *("CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "constraints.txt", "LICENSE"),
    ):
        assert needed in names
    assert not [name for name in names if name.startswith(("docs/_build", "docs/api/")) or "__pycache__" in name]
    assert archive.stat().st_size < 30e6
