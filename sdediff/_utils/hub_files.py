"""Files of the Hugging Face hub, by its own client: it keeps them in a cache and, offline, gives what is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sdediff._utils.errors import InputError

_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"


def is_hub_id(text: str) -> bool:
    """Whether a text is a repository's id, org/name."""
    return re.fullmatch(_ID, text) is not None


def hub_file(text: str) -> tuple[str, str] | None:
    """The repository and the file that org/name/path/file.safetensors names; None for other texts."""
    found = re.fullmatch(rf"({_ID})/([\w./-]+\.safetensors)", text)
    return None if found is None else (found[1], found[2])


def snapshot(name: str, patterns: Sequence[str], leave: Sequence[str] = ()) -> Path:
    """The folder of a repository with the files that match patterns and none of `leave`. InputError: none is given."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise InputError(f"{name}: no such folder; to fetch it from the hub: pip install huggingface_hub") from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns), ignore_patterns=list(leave)))
    except Exception as error:  # the hub's client raises many kinds; each means the same here
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{name}: no such folder, and the hub does not give it ({reason}): check the name") from error
