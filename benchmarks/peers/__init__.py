"""What the scripts share about other libraries: loading them, running them, and the frame they are run in."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
from typing import Any

import torch


@functools.cache
def k_diffusion() -> tuple[Any, Any]:
    """Its modules sampling and external without its package's __init__ and utils, which import torchvision."""
    found = importlib.util.find_spec("k_diffusion")
    if found is None or found.submodule_search_locations is None:
        raise ImportError("k_diffusion")
    package, utils = types.ModuleType("k_diffusion"), types.ModuleType("k_diffusion.utils")
    package.__path__ = list(found.submodule_search_locations)

    def append_dims(x: torch.Tensor, target_dims: int) -> torch.Tensor:
        """k_diffusion.utils.append_dims."""
        missing = target_dims - x.ndim
        if missing < 0:
            raise ValueError(f"input has {x.ndim} dims but target_dims is {target_dims}, which is less")
        expanded = x[(...,) + (None,) * missing]
        return expanded.detach().clone() if expanded.device.type == "mps" else expanded

    utils.append_dims = append_dims  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules["k_diffusion"], sys.modules["k_diffusion.utils"] = package, utils
    return importlib.import_module("k_diffusion.sampling"), importlib.import_module("k_diffusion.external")
