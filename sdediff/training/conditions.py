"""Dropping conditions in training: all of a sample's together, each replaced by its null row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.model.null_conditions import null_rows as null_rows


def dropped(cond: dict[str, Any], without: Tensor, null: dict[str, Any]) -> dict[str, Any]:
    """Conditions (B, ...) with the rows where `without` (B,) is True replaced by `null` (a row, or one number)."""
    lacking = [name for name in cond if name not in null]
    if lacking:
        raise InputError(
            f"drop needs to know what stands for no {lacking[0]!r}: write null={{{lacking[0]!r}: value}}, a row of it"
        )
    return {name: _replaced(name, value, without, null[name]) for name, value in cond.items()}


def _replaced(name: str, value: Any, without: Tensor, null: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(without):
        raise InputError(f"condition {name!r} has no row a sample, so it cannot be dropped: give a tensor (B, ...)")
    row = torch.as_tensor(null).to(value)
    where = without.to(value.device).reshape(-1, *[1] * (value.ndim - 1))
    return torch.where(where, row, value)
