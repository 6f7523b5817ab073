"""The shape of the package: light imports, small modules, no module-level heaviness."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sdediff

PACKAGE = Path(sdediff.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("matplotlib", "rich", "typer", "pyarrow", "scipy", "torchdiffeq", "torchsde", "ot", "sklearn", "PIL")


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_brings_torch_and_numpy_alone() -> None:
    loaded = _python(f"import sdediff, sys; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded == "[]"


def test_import_takes_under_a_second_on_top_of_torch() -> None:
    code = (
        "import time, torch, numpy, importlib.metadata, torch.nn.functional; t = time.perf_counter();"
        "import sdediff; print(time.perf_counter() - t)"
    )
    assert min(float(_python(code)) for _ in range(2)) < 1.0


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.isascii()
    assert source.count("\n") <= 250
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.end_lineno - node.body[0].lineno + 1  # type: ignore[operator]
            assert body <= 45, f"{node.name} has {body} lines"


def test_public_names_exist_and_are_documented() -> None:
    for name in sdediff.__all__:
        value = getattr(sdediff, name)
        assert value.__doc__, name


def test_names_of_functions_survive_the_import_of_modules_of_that_name() -> None:
    code = (
        "import sdediff as sd, sdediff.grids, sdediff.solvers, sdediff.datasets, sdediff.benchmark;"
        "print(callable(sd.grid), callable(sd.solvers), callable(sd.data), callable(sd.bench))"
    )
    assert _python(code) == "True True True True"


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        sdediff.nothing  # noqa: B018
