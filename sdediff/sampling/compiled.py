"""Compiled networks that are freed with the sampler that holds them."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import Any

import torch


def compiled(net: Callable[..., Any], holder: object) -> Callable[..., Any]:
    """The network, compiled; what was compiled lives as long as `holder`.

    torch.compile keeps what it compiles with the code that it compiled, which for a network is its class's: for ever.
    So a function with code and globals of its own, around the network, is what it is given.
    """

    def network(*args: Any, **cond: Any) -> Any:
        return net(*args, **cond)

    code = network.__code__.replace()
    scope = {"__name__": __name__, "__builtins__": __builtins__}
    own = types.FunctionType(code, scope, "network", None, network.__closure__)
    weakref.finalize(holder, _free, code)
    return torch.compile(own)


def _free(code: types.CodeType) -> None:
    from torch._dynamo.eval_frame import remove_from_cache

    remove_from_cache(code)
