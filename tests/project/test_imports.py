"""Who imports whom: downwards alone, in no circle, late imports included; the rooms' order is in pyproject.toml."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import tomllib

import sdediff

PACKAGE = Path(sdediff.__file__).parent
CONTRACT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
LAYERS = [floor.split(" | ") for floor in CONTRACT["contracts"][0]["layers"]]
FLOOR = {room: i for i, floor in enumerate(LAYERS) for room in floor}
# The package's __init__ puts the rooms together. It may import all of them, none of them may import it.
ROOT = "sdediff"


def _name(path: Path) -> str:
    parts = (ROOT, *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in PACKAGE.rglob("*.py")}


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes under this one but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield other
                yield from _at_run_time(other)
        else:
            yield child
            yield from _at_run_time(child)


def _imports(name: str) -> set[str]:
    """The modules of the package that a module imports, at the top or within a function."""
    found: set[str] = set()
    for node in _at_run_time(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}, line {node.lineno}: write the whole name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else str(node.module))
    return {other for other in found if other == ROOT or other.startswith(f"{ROOT}.")}


GRAPH = {name: _imports(name) for name in MODULES}


def _room(name: str) -> str:
    return name.split(".")[1] if name.count(".") else ROOT


def test_every_import_is_of_a_module_that_exists() -> None:
    assert {other for others in GRAPH.values() for other in others} <= MODULES.keys()


def test_every_room_has_its_floor() -> None:
    assert {_room(name) for name in MODULES} - {ROOT, "__main__"} == FLOOR.keys()


def test_no_modules_import_each_other_in_a_circle() -> None:
    inner = {name: others - {ROOT} for name, others in GRAPH.items() if name != ROOT}
    try:
        TopologicalSorter(inner).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_imports_only_run_downwards_late_ones_too() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        if _room(name) not in (ROOT, "__main__")
        for other in others
        if _room(other) not in (ROOT, _room(name)) and FLOOR[_room(other)] <= FLOOR[_room(name)]
    ]
    assert not wrong


def test_the_command_line_alone_uses_the_package_as_its_users_do() -> None:
    assert {_room(name) for name, others in GRAPH.items() if ROOT in others} <= {"cli", "__main__"}


def test_nothing_is_imported_by_a_string_but_by_the_root() -> None:
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module"):
                assert "sdediff" not in ast.unparse(node) or name == ROOT, f"{name}, line {node.lineno}"
