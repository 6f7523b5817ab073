"""A solver from another package: installed, it is listed, run and checked by its name."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "project" / "plugin"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package as pip installs it, from a copy and without a network."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(PLUGIN, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", str(folder / "site"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def _run(site: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(site), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=site, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_listed_and_runs_by_its_name(site: Path) -> None:
    code = (
        "import json, sdediff as sd\n"
        "info = sd.list_solvers()['ab2']\n"
        "model = sd.target('ring').model(sd.VP())\n"
        "run = sd.sample(model, (512, 2), solver='ab2', steps=40, full=True)\n"
        "radius = run.x.norm(dim=1).median().item()\n"
        "print(json.dumps([info.kind, info.order, info.calls, info.grid, run.calls, radius]))\n"
    )
    *about, radius = json.loads(_run(site, "-c", code))
    assert about == ["ODE", 2, 1, "log_snr", 41]
    assert abs(radius - 2**0.5) < 0.05


def test_the_command_line_checks_it_by_its_name(site: Path) -> None:
    said = json.loads(_run(site, "-m", "sdediff", "conformance", "ab2", "--json"))
    assert said["solver"] == "AB2()"
    assert {"value", "order", "resumes"} <= {check["name"] for check in said["passed"]}


def test_an_unknown_name_is_answered_with_it(site: Path) -> None:
    code = "import sdediff as sd\ntry:\n    sd.solver('ab3')\nexcept sd.SolverError as error:\n    print(error)\n"
    assert re.search(r"did you mean .*\bab2\b", _run(site, "-c", code))


def test_contributing_shows_this_package_and_no_other_text() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", CONTRIBUTING, re.S | re.M)
    assert (PLUGIN / "my_solvers.py").read_text(encoding="utf-8") == blocks[0]
    (entry,) = re.findall(r"^```toml\n(.*?)^```", CONTRIBUTING, re.S | re.M)
    assert entry in (PLUGIN / "pyproject.toml").read_text(encoding="utf-8")


def test_its_solver_has_at_most_twelve_lines() -> None:
    (solver,) = (
        node
        for node in ast.parse((PLUGIN / "my_solvers.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    assert solver.end_lineno is not None
    assert solver.end_lineno - solver.decorator_list[0].lineno + 1 <= 12
