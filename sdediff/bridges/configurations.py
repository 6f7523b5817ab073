"""JSON configurations in folders of other libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdediff.bridges.errors import BridgeError

_LARGEST = 16 << 20  # bytes of a configuration


def read_configuration(path: Path) -> dict[str, Any]:
    """A configuration of a folder. BridgeError: missing, too large, no JSON object."""
    try:
        if path.stat().st_size > _LARGEST:
            raise BridgeError(f"{path}: {path.stat().st_size} bytes, more than a configuration can need")
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BridgeError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, BridgeError):
            raise
        raise BridgeError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(config, dict):
        raise BridgeError(f"{path}: an object with named fields is needed, given {type(config).__name__}")
    return config
