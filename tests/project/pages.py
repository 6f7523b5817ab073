"""The pages of the documentation, read as the blocks that a reader would run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

SHELL = ("", "console", "bash")
# Blocks that are read, not run.
SHOWN = ("toml", "text", "{eval-rst}", "{toctree}")
# Lines of shell blocks that are not run, by their first word: what sets up or needs another machine.
SKIPPED = ("python3", "pip", ".venv/bin/pip", "source", "pre-commit", "torchrun", "srun")

# A comment before a block, which readers do not see: <!-- tested with: likelihood --limit 4; bench --samples 64 -->
_BLOCK = re.compile(
    r"^(?:<!-- needs: (?P<needs>\w+) -->\n+)?(?:<!-- tested with: (?P<with>.*?) -->\n+)?"
    r"^(?P<fence>```+)(?P<language>\S*)[^\n]*\n(?P<text>.*?)^(?P=fence)$",
    re.S | re.M,
)


class Block(NamedTuple):
    """A fenced block: its language, its text, the number of its first line, options that shorten its commands, and
    the package that it needs: without it the block is not run."""

    language: str
    text: str
    line: int
    shortened: dict[str, list[str]]
    needs: str | None = None

    @property
    def file(self) -> str | None:
        """The name of the module that the block is to be written to: its first line, "# my_models.py"."""
        named = re.match(r"# (\w+\.py)\n", self.text)
        return named[1] if named and self.language == "python" else None


class Command(NamedTuple):
    """A line of a shell block: its words, and the exit code that the line states in a comment, 0 where it says none."""

    words: list[str]
    code: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order."""
    text, found = page.read_text(encoding="utf-8"), []
    for match in _BLOCK.finditer(text):
        parts = [shlex.split(part) for part in (match["with"] or "").split(";") if part.strip()]
        line = text.count("\n", 0, match.start("text")) + 1
        found.append(
            Block(match["language"], match["text"], line, {name: options for name, *options in parts}, match["needs"])
        )
    return found


def commands(block: Block) -> list[Command]:
    """The `sdediff` lines of a shell block, with the options that shorten them appended."""
    found = []
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        line, _, comment = line.removeprefix("$ ").partition(" #")
        words = shlex.split(line, comments=True)
        if not words or words[0] in SKIPPED:
            continue
        if words[0] != "sdediff":
            raise ValueError(f"{line!r} is no sdediff command: add {words[0]!r} to SKIPPED, or mark the block as text")
        stated = re.search(r"exits with (\d+)", comment)
        found.append(Command([*words[1:], *block.shortened.get(words[1], [])], int(stated[1]) if stated else 0))
    unused = block.shortened.keys() - {command.words[0] for command in found}
    if unused:
        raise ValueError(f"line {block.line}: options for {', '.join(unused)}, which the block does not run")
    return found
