"""What is learnt of a network by looking, its modules' mode, types and device, and by its first evaluations."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sdediff._utils.checks import state_device, state_dtype
from sdediff.model.casts import WIDER, Types, apart, attempts, cast, fit, fit_integers, ours, tensors_of, versions_of
from sdediff.model.conditions import check_names
from sdediff.model.holders import HOLDS_NOTHING, MOST, held, of_function
from sdediff.model.mode import refuse_training
from sdediff.model.prediction import ModelError

# How deep objects that hold objects are looked into.
_DEPTH = 6
_HOLDERS = (list, tuple, nn.Module, types.FunctionType, types.MethodType, functools.partial)


class Seen(NamedTuple):
    """modules: the outermost modules of a network; dtypes: of their parameters and buffers, in order; device."""

    modules: tuple[nn.Module, ...]
    dtypes: tuple[torch.dtype, ...]
    device: torch.device | None


def look(net: Callable[..., Any]) -> Seen:
    """Find the modules that a call of `net` reaches, through partials, methods, functions and objects."""
    modules: list[nn.Module] = []
    seen: set[int] = set()
    todo: list[tuple[Any, frozenset[str], int]] = [(net, frozenset(), 0)]
    while todo and len(seen) < MOST:
        value, names, depth = todo.pop()
        if isinstance(value, HOLDS_NOTHING) or value is None or id(value) in seen or depth > _DEPTH:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            modules.append(value)
            todo += [(v, names, depth + 1) for v in vars(value).values() if isinstance(v, _HOLDERS) and v]
        elif type(value) is types.FunctionType and not (value.__closure__ or value.__defaults__ or value.__dict__):
            if not value.__globals__.keys().isdisjoint(value.__code__.co_names):
                todo += of_function(value, depth + 1)
        else:
            todo += held(value, names, depth + 1)
    dtypes: dict[torch.dtype, None] = {}
    device = None
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers(), *constants(module)):
            if tensor.is_floating_point():
                device = device or tensor.device
                dtypes[tensor.dtype] = None
    return Seen(tuple(modules), tuple(dtypes), device)


def parameter_count(net: Any) -> int:
    """The number of a network's parameters; 0 of what is no module."""
    return sum(p.numel() for p in net.parameters()) if isinstance(net, nn.Module) else 0


def constants(module: nn.Module) -> Iterator[Tensor]:
    """The tensors that freezing turned into constants of a scripted module's graph."""
    if isinstance(module, torch.jit.ScriptModule) and hasattr(module, "graph"):
        graph: Any = module.graph  # which its nodes do not keep
        for node in graph.findAllNodes("prim::Constant"):
            if node.hasAttribute("value") and node.kindOf("value") == "t":
                yield node.t("value")


def check_eval(model: Any) -> Seen:
    """Refuse a network that is still training: its dropout or batch statistics would change the result."""
    seen = look(model.net)
    if seen.modules:
        refuse_training(seen.modules)
    return seen


def placement(
    model: Any, dtype: torch.dtype | None, device: Any, like: Tensor | None = None, seen: Seen | None = None
) -> tuple[torch.dtype, torch.device]:
    """Dtype and device of the states: as asked, else the network's, else those of `like`, else torch's defaults.

    Where that is half precision, the states are float32: the network's input and output are cast. seen: what was seen
    of the network. InputError for a dtype or device that states cannot have.
    """
    if dtype is not None:
        state_dtype(dtype)
    if device is not None:
        state_device(device)
    _, dtypes, place = look(model.net) if seen is None else seen
    if not dtypes and like is not None:
        dtypes, place = (like.dtype,), like.device
    kind = dtype or (dtypes[0] if dtypes else torch.get_default_dtype())
    return WIDER.get(kind, kind), torch.device(device or place or "cpu")


# How many own the memory of a tensor that nobody else holds.
_owners: Callable[[int], int] = getattr(torch._C, "_storage_Use_Count", lambda _: 0)
_lone = torch.empty(1)
_ALONE = _owners(_lone.untyped_storage()._cdata)


class Border:
    """Evaluates a network whose ways with its input and output are not known yet: two evaluations show them.

    The first is given copies of x and the clock (B,). Where the network wrote into them, all later ones are of copies
    too. What it returns is kept as a copy, until the second has returned other memory. plain: it is now known that the
    network can be called as it is. tried: the first evaluation is over. dtypes: of the network, None to look for
    them.
    """

    # Defaults of the class: a run makes one of these, and a constructor would be one call more.
    dtypes: tuple[torch.dtype, ...] | None = None
    plain = tried = False
    _copies = _clones = _unseen = False
    _types: Types = (None, None)
    _returned: Any = None

    def first(self, net: Callable[..., Any], x: Tensor, clock: Tensor, cond: dict[str, Any]) -> Any:
        """The output of the run's first evaluation, in memory of our own."""
        kinds = look(net).dtypes if self.dtypes is None else self.dtypes
        versions = versions_of(cond) if cond else None
        try:
            if kinds and kinds != (x.dtype,):
                output, self._types, given, read = fit(net, x, clock, cond, attempts(x, clock, kinds))
            else:
                given, read = x.clone(), clock.clone()
                output = net(given, read, **cond)
        except TypeError:
            check_names(net, cond)
            raise
        except (RuntimeError, IndexError) as error:
            output, self._types, given, read = fit_integers(net, x, clock, cond, error, None)
        if versions is not None and versions_of(cond) != versions:
            raise ModelError("the network wrote into one of its conditions: let it write into a copy (clone())")
        try:
            # A fresh copy has version 0, and a tensor of inference mode has none.
            seen = bool(not given.is_inference() and given._version)
            self._unseen = not seen and not torch.equal(given, x.to(given.dtype)) and not bool(x.isnan().any())
            self._copies = (
                seen
                or bool(not read.is_inference() and read._version)
                or (given.requires_grad and not x.requires_grad)
                or (self._types[0] is None and not torch.equal(given, x))
                or (read.is_inference() and self._types[1] is None and not torch.equal(read, clock))
            )
            if type(output) is not Tensor:
                self._clones = any(_owners(v.untyped_storage()._cdata) > _ALONE for v in tensors_of(output))
            elif output.data_ptr() == given.data_ptr():
                self.tried, self.plain = True, not self._copies and self._types == (None, None)
                return output if self._types == (None, None) else output.to(x.dtype)
            else:
                self._clones = sys.getrefcount(output) > 2 or _owners(output.untyped_storage()._cdata) > _ALONE
        except RuntimeError:  # under torch.func and the like, where tensors have neither memory nor values
            self._clones = True
        self._refuse_unseen(x)
        self.tried, self._returned = True, output
        if type(output) is Tensor and output.dtype is x.dtype:
            return output.clone()
        return ours(output, None if self._types == (None, None) else x.dtype)

    def later(self, net: Callable[..., Any], x: Tensor, clock: Tensor, cond: dict[str, Any]) -> Any:
        """The output of a later evaluation, in memory of our own."""
        self._refuse_unseen(x)
        given, read = (x.clone(), clock.clone()) if self._copies else (x, clock)
        if self._types != (None, None):
            given, read = cast(given, read, self._types)
        version = None if given.is_inference() else given._version
        output = net(given, read, **cond)
        if given is x and version is not None and x._version != version:
            raise wrote()
        if self._returned is not None:
            if type(output) is Tensor is type(self._returned) and not self._clones:
                try:
                    self._clones = output.data_ptr() == self._returned.data_ptr()
                except RuntimeError:
                    self._clones = True
            elif not self._clones:
                self._clones = not apart(output, self._returned)
            self._returned = None
            self.plain = not (self._copies or self._clones) and self._types == (None, None)
        if self._types != (None, None):
            return ours(output, x.dtype)
        if not self._clones:
            return output
        return output.clone() if type(output) is Tensor else ours(output, None)

    def _refuse_unseen(self, x: Tensor) -> None:
        """Refuse gradients of a network that writes into its input where autograd does not see it."""
        if self._unseen and x.requires_grad and torch.is_grad_enabled():
            raise ModelError(
                "the network writes into its input past autograd, as by x.data or NumPy, so that its gradients are "
                "wrong: let it write into x.clone()"
            )


def beyond_rounding(one: Tensor, other: Tensor) -> bool:
    """Whether a sample's outputs in two batches differ by more than rounding, in half precision a percent."""
    return bool((one - other).abs().max() > 0.05 * one.abs().max())


def wrote() -> ModelError:
    """The refusal of a network that writes into the states after all."""
    return ModelError("the network wrote into its input, which it had not done before: let it write into x.clone()")
