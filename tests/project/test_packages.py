"""What `python -m build` packs: sources for those who build, the package alone for those who install.

SDEDIFF_DIST names a folder that holds both; without it they are built first.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

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
