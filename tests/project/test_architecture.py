"""The shape of the package: light imports, small modules, names that mean one thing, nothing remembered."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sdediff

PACKAGE = Path(sdediff.__file__).parent
TESTS = Path(__file__).parents[1]
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = sorted(
    module.name for module in pkgutil.walk_packages([str(PACKAGE)], "sdediff.") if not module.name.endswith("__main__")
)
# Stores that outlive a call, by module: none. What is kept, a user's object keeps (`Sampler`).
REMEMBERED: set[tuple[str, str]] = set()
STORES = {"lru_cache", "cache", "WeakKeyDictionary", "WeakValueDictionary", "WeakSet"}


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_brings_torch_and_numpy_alone() -> None:
    code = (
        "import sys, torch, numpy; before = set(sys.modules); import sdediff;"
        "added = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(added - {'torch', 'numpy'} - sys.stdlib_module_names))"
    )
    assert _python(code) == "['sdediff']"


def test_import_takes_under_a_second_of_the_processor_on_top_of_torch() -> None:
    code = (
        "import time, torch, numpy, importlib.metadata, torch.nn.functional; t = time.process_time();"
        "import sdediff; print(time.process_time() - t)"
    )
    assert min(float(_python(code)) for _ in range(2)) < 1.0


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.isascii()
    assert source.count("\n") <= 250
    _functions_stay_small(source)


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda p: str(p.relative_to(TESTS)))
def test_tests_stay_small_too(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 250
    _functions_stay_small(source)


def _functions_stay_small(source: str) -> None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.end_lineno - node.body[0].lineno + 1  # type: ignore[operator]
            assert body <= 45, f"{node.name} has {body} lines"


def test_public_names_exist_are_listed_and_documented() -> None:
    assert set(sdediff.__all__) <= set(dir(sdediff))
    assert len(set(sdediff.__all__)) == len(sdediff.__all__)
    for name in sdediff.__all__:
        value = getattr(sdediff, name)
        assert value.__doc__, name


def test_a_name_is_listed_before_it_is_first_used() -> None:
    code = "import sdediff as sd; print(set(sd.__all__) - set(dir(sd)))"
    assert _python(code) == "set()"


def test_every_package_offers_what_it_lists() -> None:
    for name in ("sdediff", *NAMES):
        module = importlib.import_module(name)
        for offered in getattr(module, "__all__", ()):
            assert hasattr(module, offered), f"{name}.{offered}"


def test_no_attribute_of_a_package_is_both_a_module_and_something_else() -> None:
    """`import sdediff.x.y` gives the module of that name, whatever was used or imported before."""
    code = (
        "import importlib, pkgutil, sys, sdediff\n"
        "used = [getattr(sdediff, name) for name in sdediff.__all__]\n"
        f"for name in {NAMES!r}:\n"
        "    importlib.import_module(name)\n"
        f"for name in {NAMES!r}:\n"
        "    package, _, last = name.rpartition('.')\n"
        "    found = getattr(sys.modules[package], last)\n"
        "    if found is not sys.modules[name]:\n"
        "        print(name, type(found).__name__)\n"
    )
    assert _python(code) == ""


def test_what_is_imported_by_a_dotted_name_is_a_module() -> None:
    for name in NAMES:
        module = importlib.import_module(name)
        package, _, last = name.rpartition(".")
        assert isinstance(module, ModuleType)
        found = getattr(importlib.import_module(package), last)
        assert found is module
        assert not callable(found), name


def test_no_public_function_is_called_like_a_room() -> None:
    rooms = {name.partition(".")[2] for name in NAMES if name.count(".") == 1}
    for name in rooms & set(sdediff.__all__):
        assert isinstance(getattr(sdediff, name), ModuleType), name


def test_nothing_is_remembered_behind_the_users_back() -> None:
    found = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ""
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = node.attr if node.value.id in ("functools", "weakref") else ""
            elif isinstance(node, ast.ImportFrom) and node.module in ("functools", "weakref"):
                name = next((alias.name for alias in node.names if alias.name in STORES), "")
            if name in STORES:
                found.add((str(path.relative_to(PACKAGE)), name))
    assert found == REMEMBERED


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        sdediff.nothing  # noqa: B018
