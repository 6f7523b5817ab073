"""A cache of the Hugging Face hub's client as it lies on the disk: blobs, and snapshots of links to them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def cached(cache: Path, name: str, folder: Path) -> Path:
    """Puts a folder into the cache as the newest snapshot of a repository; returns the snapshot."""
    repository = cache / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(name.encode()).hexdigest()
    for place in ("blobs", "refs", f"snapshots/{commit}"):
        (repository / place).mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = repository / "snapshots" / commit / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return repository / "snapshots" / commit
