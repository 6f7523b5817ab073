"""Where training runs: in this process, or by accelerate in several, on accelerators, in mixed precision."""

from __future__ import annotations

import copy
import functools
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
from sdediff.training.shards import in_shards, whole


class OneProcess:
    """This process alone, in the precision of the weights."""

    rank, processes = 0, 1

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = state_device(device)

    def trained(self, modules: nn.ModuleDict) -> nn.ModuleDict:
        """What is trained in place of these modules: they themselves, or a copy in shards."""
        return modules

    def copy(self, modules: nn.ModuleDict) -> nn.ModuleDict:
        """A copy of modules, laid out as what is trained."""
        return copy.deepcopy(modules)

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


class Sharded(Accelerated):
    """Several processes that share one network by `fully_shard` (FSDP). Rajbhandari et al. 2020; Zhao et al. 2023.

    The network that was given stays whole and takes the averaged weights; what is trained is a copy in shards. Weights
    are gathered for each forward and backward pass, each member of a list of modules by itself.
    """

    def __init__(self, settings: TrainingSettings, device: str | torch.device) -> None:
        if settings.precision == "fp16":
            raise TrainingError('precision="fp16" scales gradients, which shards do not: write precision="bf16"')
        super().__init__(settings, device)
        self._mesh = torch.distributed.init_device_mesh(self.device.type, (self.processes,))

    def trained(self, modules: nn.ModuleDict) -> nn.ModuleDict:
        return self.copy(modules)

    def copy(self, modules: nn.ModuleDict) -> nn.ModuleDict:
        from torch.distributed.fsdp import fully_shard

        found = copy.deepcopy(modules)
        net = found["net"]
        for part in [*_parts(net), net]:
            fully_shard(part, mesh=self._mesh)
        return found

    def prepare(self, net: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        if self._accelerator.mixed_precision != "no":
            from accelerate.utils import convert_outputs_to_fp32

            half = torch.autocast(self.device.type, torch.bfloat16)
            net.forward = convert_outputs_to_fp32(functools.wraps(net.forward)(half(net.forward)))
        return net, optimiser

    def part(self, net: nn.Module, last: bool) -> AbstractContextManager[Any]:
        sharded: Any = net  # of the class that fully_shard made of it
        sharded.set_requires_gradient_sync(last)
        return nullcontext()

    def clip(self, parameters: list[nn.Parameter], norm: float) -> None:
        grads = [p.grad for p in parameters if p.grad is not None]
        groups = [[g for g in grads if in_shards(g) == kind] for kind in (True, False)]
        norms = [whole(nn.utils.get_total_norm(group)) for group in groups if group]
        share = norm / (torch.linalg.vector_norm(torch.stack(norms)).item() + 1e-6)
        if share < 1:
            for grad in grads:
                grad.mul_(share)


def _parts(net: nn.Module) -> Iterable[nn.Module]:
    """The members of the network's lists of modules, the outermost lists alone."""
    for child in net.children():
        if isinstance(child, nn.ModuleList):
            yield from (member for member in child if not isinstance(member, nn.ModuleList | nn.Identity))


def backend(settings: TrainingSettings, device: str | torch.device = "cpu") -> OneProcess:
    """accelerate where there are several processes or mixed precision, else this process alone.

    Weights are in shards where the settings or `accelerate launch --use_fsdp` ask for it.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if settings.shard and not several:
        raise TrainingError("shard=True shares the weights between processes, and this is one: start more by torchrun")
    if several and (settings.shard or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"):
        return Sharded(settings, device)
    return Accelerated(settings, device) if several or settings.precision != "no" else OneProcess(device)
