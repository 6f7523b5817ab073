"""One base for every error that the package raises on purpose."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest

import sdediff as sd
from sdediff._utils.errors import InputError, InputTypeError, MissingPackageError
from sdediff.analysis import NotLinear
from sdediff.cli.options import BadInput
from sdediff.datasets import DataError
from sdediff.datasets.errors import needed
from sdediff.hub import HubError
from sdediff.integrate import IntegrationError
from sdediff.jobs import JobError, Stopped
from sdediff.testing import ConformanceError
from sdediff.training.settings import TrainingError

PACKAGE = Path(sd.__file__).parent
BARE = {"Exception", "ValueError", "TypeError", "RuntimeError", "ImportError"}


def _modules() -> list[str]:
    every = pkgutil.walk_packages([str(PACKAGE)], "sdediff.")
    return sorted(module.name for module in every if not module.name.endswith("__main__"))


@pytest.mark.parametrize("name", _modules())
def test_every_error_class_derives_from_the_base(name: str) -> None:
    # A name with an underscore never leaves its module.
    for found in vars(importlib.import_module(name)).values():
        raised = inspect.isclass(found) and issubclass(found, Exception) and not issubclass(found, Warning)
        if raised and found.__module__ == name:
            assert issubclass(found, sd.Error) or found.__name__.startswith("_"), found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_is_raised_is_an_error_of_the_package(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            assert node.exc.func.id not in BARE, f"line {node.lineno}"


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (InputError, ValueError),
        (InputTypeError, TypeError),
        (MissingPackageError, ImportError),
        (sd.SDEError, ValueError),
        (sd.ModelError, ValueError),
        (sd.SolverError, ValueError),
        (NotLinear, sd.SolverError),
        (DataError, ValueError),
        (HubError, ValueError),
        (JobError, ValueError),
        (TrainingError, ValueError),
        (IntegrationError, RuntimeError),
        (ConformanceError, AssertionError),
        (BadInput, Exception),
    ],
)
def test_a_typed_error_is_also_what_python_calls_it(kind: type[Exception], also: type[Exception]) -> None:
    assert issubclass(kind, sd.Error)
    assert issubclass(kind, also)


def test_a_stop_passes_through_what_catches_errors() -> None:
    assert not issubclass(Stopped, Exception)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: sd.data("digit"),
        lambda: sd.metrics.distance("enrgy"),
        lambda: sd.nets.MLP(2, width=8, input="none"),
        lambda: needed("no_such_package", "no_such_package"),
        lambda: sd.solver("hien"),
        lambda: sd.load("no such model"),
    ],
)
def test_one_except_clause_catches_them(wrong: Callable[[], object]) -> None:
    with pytest.raises(sd.Error):
        wrong()
