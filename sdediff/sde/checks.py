"""A look at a process before it is used: its coefficients at a few times, and that its noise rises with time."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import number, shown
from sdediff._utils.errors import InputTypeError
from sdediff._utils.tensors import times64
from sdediff.sde.base import SDE, LinearSDE, SDEError, linear

_TIMES = 17


def check_kind(sde: Any, name: str = "sde") -> None:
    """Refuse, in a sentence, what is no process."""
    if not isinstance(sde, SDE):
        made = inspect.isclass(sde) and issubclass(sde, SDE)
        hint = f"make it, {sde.__name__}()" if made else "give a process such as sd.VP()"
        raise InputTypeError(f"{name}={shown(sde)} is no process: {hint}")


def check_process(sde: Any, name: str = "sde") -> None:
    """Refuse, in a sentence, what is no process or one whose coefficients cannot be right.

    Evaluates it at a few times: alpha, sigma and g are float64 tensors shaped like the times and finite, alpha and
    sigma are positive below T, and lam falls.
    """
    check_kind(sde, name)
    T, t_min, kind = number("T", sde.T), number("t_min", sde.t_min), type(sde).__name__
    if not 0 <= t_min < T:
        raise SDEError(f"{kind} has T={T}, t_min={t_min}: needed is T > t_min >= 0")
    with torch.no_grad():
        if sde.linear:
            _check_linear(linear(sde), kind, t_min, T)
        else:
            _check_diffusion(sde, kind, t_min, T)


def _check_linear(sde: LinearSDE, kind: str, t_min: float, T: float) -> None:
    last = torch.tensor([T], dtype=torch.float64)
    for name in ("alpha", "sigma"):
        coefficient(sde, name, last)
    t_max = number("t_max", sde.t_max)
    # One step below t_min is not looked at: a process may be singular at 0.
    times = torch.linspace(t_min, t_max, _TIMES, dtype=torch.float64)
    alpha, sigma = coefficient(sde, "alpha", times), coefficient(sde, "sigma", times)
    at = times.tolist()
    for name, values in (("alpha", alpha.tolist()), ("sigma", sigma.tolist())):
        for time, value in zip(at, values, strict=True):
            if not value > 0:
                raise SDEError(
                    f"{kind}.{name} is {value} at t={time:.6g}: it must be positive from "
                    f"t_min={t_min:.6g} to {t_max:.6g}, choose T, t_min or the coefficients so"
                )
    lam = coefficient(sde, "lam", times).tolist()
    for one, two, before, after in zip(at, at[1:], lam, lam[1:], strict=False):
        if not after < before:
            raise SDEError(
                f"the noise of {kind} does not rise with time: log(alpha/sigma) goes from {before:.6g} at t={one:.6g} "
                f"to {after:.6g} at t={two:.6g}, needed is a falling one, data at t=0 and noise at T={T:.6g}"
            )


def _check_diffusion(sde: SDE, kind: str, t_min: float, T: float) -> None:
    times = torch.linspace(t_min, T, _TIMES + 2, dtype=torch.float64)[1:-1]
    values = coefficient(sde, "diffusion", times)
    coefficient(sde, "diffusion", times[0])
    if bool((values < 0).any()):
        raise SDEError(f"{kind}.diffusion is negative inside (t_min, T): give g(t) >= 0")


def coefficient(sde: SDE, name: str, times: Tensor) -> Tensor:
    """A coefficient at given times, refused where it is no float64 tensor of their shape or not finite."""
    kind = type(sde).__name__
    try:
        values = getattr(sde, name)(times)
    except Exception as error:
        raise SDEError(f"{kind}.{name}(t) raised {type(error).__name__} for float64 times: {error}") from error
    shapes = (times.shape, torch.Size()) if name == "diffusion" else (times.shape,)
    one = isinstance(values, Tensor) and values.shape == () and values.is_floating_point()
    if name == "diffusion" and (one or (isinstance(values, int | float) and not isinstance(values, bool))):
        values = times64(values)
    if not isinstance(values, Tensor) or values.shape not in shapes or values.dtype != torch.float64:
        needs = "needed is a float64 tensor of the times' shape, computed from t itself (torch.ones_like(t) for 1)"
        raise SDEError(f"{kind}.{name}(t) gave {shown(values)} for times of shape {tuple(times.shape)}: {needs}")
    # A sum that is finite says that all is.
    wrong = torch.isnan if name == "lam" else lambda v: ~torch.isfinite(v)
    if not math.isfinite(values.detach().sum().item()) and bool(wrong(values).any()):
        bad = times.expand(values.shape).reshape(-1)[~torch.isfinite(values).reshape(-1)][0].item()
        raise SDEError(f"{kind}.{name}(t) is not finite at t={bad:.6g}: it must be finite from t_min to T")
    return values


def drift_of(sde: SDE, x: Tensor, t: Any) -> Tensor:
    """The drift at states x (B, ...), refused where it is not shaped and typed like them."""
    drift = sde.drift(x, t)
    if not isinstance(drift, Tensor) or drift.shape != x.shape or drift.dtype != x.dtype:
        raise SDEError(
            f"{type(sde).__name__}.drift gave {shown(drift)} for states {tuple(x.shape)} {x.dtype}: needed is a "
            "tensor shaped and typed like x"
        )
    return drift
