"""Whether a network is still training where that changes its output."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from sdediff.model.prediction import ModelError

# What draws numbers or reads the batch in train mode; scripted parts have their class's name alone.
_ACTIVE = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RReLU)
_SCRIPTED = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "BatchNorm", "SyncBatchNorm", "RReLU")
# Of the operations of a traced graph, which of their inputs says that they train.
_TRACED = {"aten::dropout": 2, "aten::dropout_": 2, "aten::feature_dropout": 2, "aten::batch_norm": 5}


def refuse_training(modules: Iterable[nn.Module]) -> None:
    """Refuse modules with a part in train mode that makes the output depend on chance or on the batch."""
    for module in modules:
        for part in module.modules():
            if getattr(part, "training", False) and _active(part):
                name = next(name for name, p in module.named_modules() if p is part).replace("_orig_mod.", "")
                raise ModelError(f"the network is in train mode and {name or 'it'} is active there: write net.eval()")
        if isinstance(module, torch.jit.ScriptModule) and hasattr(module, "inlined_graph"):
            graph = module.inlined_graph  # which its nodes do not keep
            for kind, place in _TRACED.items():
                nodes = graph.findAllNodes(kind)  # type: ignore[attr-defined]
                if any(list(n.inputs())[place].toIValue() for n in nodes):
                    raise ModelError(
                        f"the network was traced in train mode and its {kind.removeprefix('aten::')} stays active: "
                        "write net.eval() before torch.jit.trace"
                    )


def _active(part: nn.Module) -> bool:
    """Whether a part's class, scripted or not, or an option of it, draws or reads the batch in train mode."""
    if isinstance(part, torch.jit.ScriptModule):
        return str(getattr(part, "original_name", "")).rstrip("123d") in _SCRIPTED
    if isinstance(part, nn.modules.instancenorm._InstanceNorm):
        return bool(part.track_running_stats)
    return isinstance(part, _ACTIVE) or (isinstance(part, nn.MultiheadAttention | nn.RNNBase) and part.dropout > 0)
