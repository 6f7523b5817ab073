"""Where and with what a sweep ran: the state of git in the working folder, the machine, versions and the date."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdediff._utils.machine import machine, versions


def circumstances(device: Any, peers: Sequence[str] = ()) -> dict[str, Any]:
    """What describes one run and no other: machine, versions, and git where the working folder has it.

    peers: the distributions of other libraries whose samplers ran.
    """
    return {"machine": machine(device), "versions": versions(*peers), "git": git_state()}


def git_state(folder: Path | None = None) -> dict[str, Any] | None:
    """The commit of the working folder and whether it has changes; None without a repository, or without git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def _git(folder: Path | None, *arguments: str) -> str:
    try:
        ran = subprocess.run(
            ["git", *arguments], cwd=folder or Path.cwd(), capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""
