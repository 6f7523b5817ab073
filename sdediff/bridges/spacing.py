"""The times that a scheduler of diffusers visits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import whole
from sdediff.bridges.errors import BridgeError
from sdediff.bridges.network import library
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.sde.base import linear

# Times this near to a timestep are that timestep: the library's sigmas are float32.
_NEAR = 5e-3


def scheduler_times(model: ScoreModel, calls: int, **options: Any) -> Tensor:
    """The grid of the scheduler that a model came with, for `grid=`: decreasing float64 times.

    model: of `from_diffusers`. calls: its num_inference_steps, a network evaluation each for methods of one a step; the
    last step to sigma = 0 is `denoise=True`. Its spacing, offset and shift are those of its configuration;
    options: others, such as mu for a shift by the size of the state. Inner stages (Heun, KDPM2) and repetitions (PNDM)
    are left out. Raises BridgeError: a model without such a scheduler, counts that it refuses.
    """
    model = check_model(model)
    config = model.card.get("scheduler")
    kind = getattr(library(), str(config.get("_class_name")), None) if isinstance(config, dict) else None
    if not isinstance(config, dict) or kind is None:
        raise BridgeError("the model's card names no scheduler of diffusers: give a model of sd.from_diffusers")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the library's own use of NumPy
            scheduler = kind.from_config(config)
            scheduler.set_timesteps(whole("calls", calls, 1), **options)
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise BridgeError(f"{type(error).__name__} in {config['_class_name']} with {calls} calls: {error}") from error
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None:
        times = np.asarray(scheduler.timesteps, dtype=np.float64) + 1
    else:
        kappa = torch.as_tensor(np.asarray(sigmas), dtype=torch.float64)
        kappa = kappa[kappa > 0]
        times = (kappa if _flow(model) else linear(model.sde).t_of_lam(-torch.log(kappa))).numpy()
    if hasattr(model.sde, "n"):
        times = np.where(np.abs(times - times.round()) < _NEAR, times.round(), times)
    falling = [float(times[0])]
    for time in times[1:].tolist():
        if time < falling[-1]:
            falling.append(time)
    return torch.tensor(falling, dtype=torch.float64)


def _flow(model: ScoreModel) -> bool:
    """Whether the scheduler's sigmas are a flow's times, not sigma/alpha."""
    return bool(model.sde.values([model.sde.T])[0].item() == 0) and not hasattr(model.sde, "n")  # type: ignore[attr-defined]
