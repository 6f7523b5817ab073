"""Every block of the README, CONTRIBUTING and the docs is executed, a page in one namespace and one folder."""

from __future__ import annotations

import importlib
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import sdediff as sd
from sdediff.cli import main
from tests.project.pages import PAGES, ROOT, SHELL, SHOWN, blocks, commands


def _run(page: Path, module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page):
        if block.needs and find_spec(block.needs) is None:
            continue
        if block.language == "output":  # what the Python block before it prints
            assert capsys.readouterr().out.splitlines() == block.text.splitlines(), f"{page.name}, line {block.line}"
        elif block.file is not None:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            capsys.readouterr()
            source = "\n" * (block.line - 1) + block.text  # so that an error names the line of the page
            exec(compile(source, str(page), "exec"), vars(module))
        elif block.language in SHELL:
            for words, code in commands(block):
                capsys.readouterr()
                given = main(words)
                assert given == code, f"sdediff {' '.join(words)}: {given}\n{capsys.readouterr().err}"
        else:
            assert block.language in SHOWN, f"{page.name}, line {block.line}: a block of {block.language!r}"


@pytest.mark.parametrize("page", [pytest.param(p, id=p.stem) for p in PAGES if blocks(p)])
def test_blocks_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in [block.file for block in blocks(page) if block.file is not None]:
        monkeypatch.setitem(sys.modules, name.removesuffix(".py"), None)
        del sys.modules[name.removesuffix(".py")]  # to be imported here, and forgotten afterwards
    module = ModuleType(f"examples_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    _run(page, module, capsys)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_names_on_a_page_exist(page: Path) -> None:
    """Names `sd.x.y` and `sdediff.x.y`, and files of the repository or of the package, between backticks or in code."""
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"\b(?:sd|(?<![\"/])sdediff)\.([a-z_A-Z]\w*(?:\.[a-zA-Z_]\w*)*)(?![\w*])", text)):
        assert _there(name), f"sd.{name} is not there"
    for path in set(re.findall(r"`((?:\w+/)+[\w*]*(?:\.\w+)?)`", text)):
        known = path.partition("/")[0] in ("sdediff", "tests", "docs", "benchmarks") or path.endswith(".py")
        roots = (ROOT, ROOT / "sdediff")
        assert not known or any(list(root.glob(path.rstrip("/"))) for root in roots), f"{path} is not there"
    for path in set(re.findall(r"^ (\w+/\w+\.py) ", text, re.M)):  # the diagram of a walk
        assert (ROOT / "sdediff" / path).is_file(), f"{path} is not there"


def _there(name: str) -> bool:
    """Whether a name with dots is an attribute of the package, or a module of it with such an attribute."""
    value: object = sd
    for i, part in enumerate(name.split(".")):
        if not hasattr(value, part):
            try:
                importlib.import_module(".".join(["sdediff", *name.split(".")[: i + 1]]))
            except ImportError:
                return False
        value = getattr(value, part)
    return True
