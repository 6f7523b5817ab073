"""Tensors in shards, of which each process holds a part, beside whole ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def in_shards(value: Any) -> bool:
    """Whether a tensor is one in shards, of which this process holds a part."""
    return hasattr(value, "full_tensor")


def whole(value: Any) -> Tensor:
    """A tensor with the parts of all processes, which ask for it together; others pass through."""
    found: Tensor = value.full_tensor() if in_shards(value) else value
    return found


def own_part(value: Any) -> Tensor:
    """What this process holds of a tensor, sharing its memory."""
    found: Tensor = value.detach().to_local() if in_shards(value) else value
    return found


def like(value: Tensor, other: Any) -> Tensor:
    """A whole tensor in the shards of another of its shape; as it is where the other has none."""
    if not in_shards(other) or value.shape != other.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)


def all_like(values: dict[str, Tensor], others: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors by name, each in the shards of its namesake."""
    return {name: like(value, others.get(name)) for name, value in values.items()}
