"""Small networks that are called and named as those of other libraries, and the libraries' own formulas around them."""

from __future__ import annotations

import math
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdediff.bridges import BridgeError

F64 = torch.float64


class Small(nn.Module):
    """Two convolutions with the clock between them; called as score_sde's and guided-diffusion's networks."""

    def __init__(self, width: int = 4, out: int = 1) -> None:
        super().__init__()
        self.frozen = nn.Parameter(torch.linspace(0.1, 1.0, width), requires_grad=False)
        self.input_blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(1, width, 3, padding=1))])
        self.out = nn.Sequential(nn.GroupNorm(1, width), nn.Tanh(), nn.Conv2d(width, out, 3, padding=1))
        self.register_buffer("sigmas", torch.linspace(1.0, 0.1, 5))

    def forward(self, x: Tensor, time: Tensor, y: Tensor | None = None) -> Tensor:
        angle = torch.log1p(time.abs())[:, None] * self.frozen.to(x.dtype)
        hidden = self.input_blocks[0](x) + torch.sin(angle)[:, :, None, None].to(x.dtype)
        shift = 0 if y is None else y.to(x.dtype)[:, None, None, None] / 10
        output: Tensor = self.out(hidden + shift)
        return output


class SongUNet(nn.Module):
    """Called as EDM's networks, whose third argument has no default."""

    def __init__(self, width: int = 4, out: int = 1) -> None:
        super().__init__()
        self.body = Small(width, out)
        self.register_buffer("not_kept", torch.ones(2), persistent=False)

    def forward(self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None) -> Tensor:
        output: Tensor = self.body(x, noise_labels, None if class_labels is None else class_labels.argmax(1))
        return output


def refusal(read: Callable[[], Any]) -> str:
    """The sentence by which a reader refuses, empty where it reads."""
    try:
        read()
    except BridgeError as error:
        return str(error)
    return ""


def small(seed: int = 0, out: int = 1) -> Small:
    torch.manual_seed(seed)
    return Small(out=out).double().eval()


def states(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 1, 6, 6)), generator=torch.Generator().manual_seed(7), dtype=F64)


class Precond(nn.Module):
    """EDM's four preconditionings, eq. 7 and table 1 of Karras et al. 2022: the denoised state of x at noise sigma."""

    def __init__(self, model: nn.Module, **kept: Any) -> None:
        super().__init__()
        self.model = model
        for name, value in kept.items():
            setattr(self, name, value)


class EDMPrecond(Precond):
    def forward(self, x: Tensor, sigma: float, labels: Tensor | None = None) -> Tensor:
        norm = math.sqrt(sigma**2 + self.sigma_data**2)
        output = self.model(x / norm, torch.full((len(x),), math.log(sigma) / 4, dtype=F64), labels)
        return self.sigma_data**2 / norm**2 * x + sigma * self.sigma_data / norm * output


class VPPrecond(Precond):
    def forward(self, x: Tensor, sigma: float, labels: Tensor | None = None) -> Tensor:
        log = math.log(1 + sigma**2)
        time = (math.sqrt(self.beta_min**2 + 2 * self.beta_d * log) - self.beta_min) / self.beta_d
        clock = torch.full((len(x),), (self.M - 1) * time, dtype=F64)
        return x - sigma * self.model(x / math.sqrt(1 + sigma**2), clock, labels)


class VEPrecond(Precond):
    def forward(self, x: Tensor, sigma: float, labels: Tensor | None = None) -> Tensor:
        return x + sigma * self.model(x, torch.full((len(x),), math.log(sigma / 2), dtype=F64), labels)


class iDDPMPrecond(Precond):
    def forward(self, x: Tensor, sigma: float, labels: Tensor | None = None) -> Tensor:
        index = int((self.u - sigma).abs().argmin())
        clock = torch.full((len(x),), float(self.M - 1 - index), dtype=F64)
        return x - sigma * self.model(x / math.sqrt(1 + sigma**2), clock, labels)[:, :1]


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("the code of the file was run")


def write_edm(path: Path, monkeypatch: pytest.MonkeyPatch, networks: dict[str, nn.Module], protocol: int) -> None:
    """A pickle as EDM writes it: networks as calls of its own module, which is gone when the file is read."""
    module, package = types.ModuleType("torch_utils.persistence"), types.ModuleType("torch_utils")
    function = types.FunctionType(_reconstruct_persistent_obj.__code__, {}, "_reconstruct_persistent_obj")
    function.__module__, module._reconstruct_persistent_obj = module.__name__, function  # type: ignore[attr-defined]
    package.persistence = module  # type: ignore[attr-defined]

    def persistent(self: nn.Module) -> Any:
        meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": type(self).__name__}
        return function, ({**meta, "state": dict(vars(self))},)

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch_utils", package)
        patch.setitem(sys.modules, "torch_utils.persistence", module)
        for kind in (Precond, SongUNet):
            patch.setattr(kind, "__reduce__", persistent, raising=False)
            patch.setattr(kind, "__reduce_ex__", lambda self, _: persistent(self), raising=False)
        with path.open("wb") as file:
            pickle.dump({**networks, "training_set_kwargs": {"path": "data.zip"}}, file, protocol=protocol)
