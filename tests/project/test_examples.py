"""Every Python block of the README, CONTRIBUTING and the docs is executed, a page in one namespace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = {page: re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M) for page in PAGES}


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCKS[page]], ids=lambda p: p.stem)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": f"examples_{page.stem}"}
    monkeypatch.setitem(__import__("sys").modules, namespace["__name__"], type("Module", (), {})())
    for block in BLOCKS[page]:
        exec(compile(block, str(page), "exec"), namespace)
    assert "sd" in namespace or page.stem == "CONTRIBUTING"
