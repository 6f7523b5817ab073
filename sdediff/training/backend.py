"""Where training runs: in this process, or by accelerate in several, on accelerators, in mixed precision."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sdediff._utils.checks import state_device
from sdediff.datasets import needed
from sdediff.training.settings import TrainingError, TrainingSettings


class OneProcess:
    """This process alone, in the precision of the weights."""

    rank, processes = 0, 1

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = state_device(device)

    def prepare(self, net: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """The network as it is called in training, and the optimiser as it is stepped."""
        return net, optimiser

    def part(self, net: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """The context of one part of a batch; gradients are shared in the last."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients."""
        loss.backward()

    def clip(self, parameters: list[nn.Parameter], norm: float) -> None:
        """Limits the norm of all gradients together."""
        nn.utils.clip_grad_norm_(parameters, norm)

    def gather(self, value: Tensor) -> Tensor:
        """The rows of all processes, in their order."""
        return value

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Averages gradients of parameters outside of the network over the processes."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, plain values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""

    def wait(self) -> None:
        """Waits for the other processes."""

    def peak_memory(self) -> int:
        """The most memory that this process has held, of its accelerator where it has one, bytes; 0 where unknown."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        try:
            import resource
        except ImportError:  # not on Windows
            return 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak if sys.platform == "darwin" else peak * 1024)


class Accelerated(OneProcess):
    """By accelerate: processes started by torchrun or `accelerate launch`, devices, mixed precision."""

    def __init__(self, settings: TrainingSettings, device: str | torch.device) -> None:
        accelerate = needed("accelerate", "sdediff[train]")
        place = torch.device(device)
        if settings.precision == "fp16" and place.type == "cpu":
            raise TrainingError(
                'precision="fp16" needs an accelerator that scales its gradients, and the device is cpu: '
                'write precision="bf16", or give a device'
            )
        self._accelerator = accelerate.Accelerator(mixed_precision=settings.precision, cpu=place.type == "cpu")
        self.rank, self.processes = self._accelerator.process_index, self._accelerator.num_processes
        self.device = self._accelerator.device

    def prepare(self, net: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        return self._accelerator.prepare(net, optimiser)

    def part(self, net: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self._accelerator.no_sync(net)

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def clip(self, parameters: list[nn.Parameter], norm: float) -> None:
        self._accelerator.clip_grad_norm_(parameters, norm)

    def gather(self, value: Tensor) -> Tensor:
        rows = self._accelerator.gather(value.to(self.device).contiguous())
        return rows.to(value.device)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            if self.processes > 1 and parameter.grad is not None:
                parameter.grad = self._accelerator.reduce(parameter.grad, "mean")

    def state(self) -> dict[str, Any]:
        scaler = self._accelerator.scaler
        return {} if scaler is None else {"scaler": scaler.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        if self._accelerator.scaler is not None and "scaler" in state:
            self._accelerator.scaler.load_state_dict(state["scaler"])

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()


def backend(settings: TrainingSettings, device: str | torch.device = "cpu") -> OneProcess:
    """accelerate where there are several processes or mixed precision, else this process alone."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return Accelerated(settings, device) if several or settings.precision != "no" else OneProcess(device)
