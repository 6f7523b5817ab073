"""Small networks of diffusers with random weights, and its schedulers run in float64 beside our solvers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

F64 = torch.float64
# The library makes arrays of tensors in a way that NumPy 2 warns of.
MARKS = [pytest.mark.extras, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]
diffusers = pytest.importorskip("diffusers")


def _prepared(*given: Any) -> Any:
    place = str(Path(__file__).parents[2] / "benchmarks")
    if place not in sys.path:
        sys.path.insert(0, place)
    return importlib.import_module("peers.schedulers").prepared(*given)


def wake(network: nn.Module) -> nn.Module:
    """The network in float64, with weights that are not zero anywhere."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return network.double().eval()


def unet(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    given = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
    }  # fmt: skip
    return wake(diffusers.UNet2DModel(**{**given, **options}))


def conditional(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    given = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "norm_num_groups": 4, "cross_attention_dim": 8,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "attention_head_dim": 4,
    }  # fmt: skip
    return wake(diffusers.UNet2DConditionModel(**{**given, **options}))


def dit(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    given = {
        "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 2, "out_channels": 4, "num_layers": 1,
        "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 10, "norm_num_groups": 1,
    }  # fmt: skip
    return wake(diffusers.DiTTransformer2DModel(**{**given, **options}))


class Theirs:
    """A scheduler of diffusers in float64 and the run of its own loop."""

    def __init__(self, kind: str, draw: Callable[[Tensor], Tensor] = torch.zeros_like, **config: Any) -> None:
        made = getattr(diffusers, kind)
        self.module, self.draw = sys.modules[made.__module__], draw
        with self._wide():
            self.scheduler = made(**config)

    def _wide(self) -> Any:
        return _prepared(self.module, True, self.draw)

    def run(
        self, network: Callable[..., Any], x: Tensor, calls: int, first: bool = False, whole: bool = True
    ) -> Tensor:
        """x is in the scheduler's own frame, as is the result: after all steps, or after the first.

        whole: the network reads what the library gives it; else 1000 sigma, which it would cut to whole numbers.
        """
        it = self.scheduler
        with self._wide():
            it.set_timesteps(calls)
            for i, t in enumerate(it.timesteps):
                given = it.scale_model_input(x, t) if hasattr(it, "scale_model_input") else x
                output = network(given, t if whole else 1000 * it.sigmas[i]).sample
                x = it.step(output, t, x).prev_sample
                if first:
                    break
        return x


def start(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 1, 8, 8)), generator=torch.Generator().manual_seed(3), dtype=F64)
