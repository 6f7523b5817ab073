"""What a network takes for no condition, by its own word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sdediff.model.network import look


def null_rows(net: Callable[..., Any]) -> dict[str, Any]:
    """What a network's conditions are where there is none, by its method `null_conditions`; empty without one."""
    for module in look(net).modules:
        for part in module.modules():
            method = getattr(part, "null_conditions", None)
            if callable(method):
                return dict(method())
    return {}
