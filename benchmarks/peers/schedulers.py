"""diffusers' schedulers as the scripts run them: on a given table, in float64, with given noise."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Draw = Callable[[Tensor], Tensor]


class _Wide:
    """A module of numbers whose float32 is float64."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, "float64" if name == "float32" else name)


@contextlib.contextmanager
def prepared(module: Any, wide: bool = True, draw: Draw | None = None) -> Iterator[None]:
    """A peer's module with float64 where it forces float32, and with noise of our choice; as it was afterwards.

    Its formulas stay its own: what changes is the precision of the names torch.float32 and np.float32 in it,
    torch's default dtype, and what randn_tensor gives.
    """
    changed: dict[str, Any] = {}
    if wide:
        changed = {name: _Wide(vars(module)[name]) for name in ("torch", "np") if name in vars(module)}
    if draw is not None and "randn_tensor" in vars(module):
        changed["randn_tensor"] = lambda shape, dtype=None, **_: draw(torch.empty(shape)).to(dtype)
    before, default = {name: vars(module)[name] for name in changed}, torch.get_default_dtype()
    try:
        vars(module).update(changed)
        torch.set_default_dtype(torch.float64 if wide else default)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(default)
        vars(module).update(before)


class Scheduler:
    """A scheduler on a table of alpha_bars (N,), its times set for n steps.

    In float64 (`wide`) the table is kept to the last digit; as shipped it is rounded to float32 betas.
    `times` are the table's knots 1..N that it visits, without repetitions; `kappas` the same as sigma/alpha.
    """

    def __init__(self, kind: str, bars: Tensor, n: int, wide: bool = True, draw: Draw | None = None, **options: Any):
        made = getattr(importlib.import_module("diffusers"), kind)
        self.module, self.wide, self.draw = sys.modules[made.__module__], wide, draw
        with self._prepared():
            if "trained_betas" in made.__init__.__wrapped__.__code__.co_varnames:
                betas = 1 - bars / torch.cat([torch.ones(1, dtype=bars.dtype), bars[:-1]])
                self.it = made(trained_betas=betas.tolist(), **options)
                if wide:
                    # A cumulative product of 1 - beta loses digits of 1 - alpha_bar where that is small.
                    self.it.alphas_cumprod = bars
            else:
                self.it = made(**options)
            self.it.set_timesteps(n)
        self.in_kappa = float(self.it.init_noise_sigma) != 1

    def _prepared(self) -> contextlib.AbstractContextManager[None]:
        return prepared(self.module, self.wide, self.draw)

    @property
    def times(self) -> list[float]:
        """The knots visited, from noise to data, without the inner nodes of a step."""
        found = self.it.timesteps.tolist()
        if hasattr(self.it, "_timesteps"):
            found = self.it._timesteps[::-1].tolist()
        if hasattr(self.it, "sigmas_interpol"):
            found = found[::2]
        return list(dict.fromkeys(t + 1 for t in found))

    def run(self, net: Callable[[Tensor, float], Tensor], x: Tensor, last: bool = True, **options: Any) -> Tensor:
        """The state after every step, or after all but the last: x, net and result in the scheduler's own frame.

        net(y, i) answers for the state as `scale_model_input` makes it, i the step's number.
        """
        count = len(self.it.timesteps)
        with self._prepared():
            for i, t in enumerate(self.it.timesteps):
                if i == count - 1 and not last:
                    break
                x = self.it.step(net(self.it.scale_model_input(x, t), i), t, x, **options).prev_sample
        return x
