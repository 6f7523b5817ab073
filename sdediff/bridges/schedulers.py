"""What a scheduler of diffusers says of its network: process, parametrisation and clock, from its configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sdediff._utils.suggestions import nearest
from sdediff.bridges.betas import table_of
from sdediff.bridges.clocks import angle_clock
from sdediff.bridges.errors import BridgeError
from sdediff.grids.levels import Level
from sdediff.model.clock import Clock
from sdediff.sde.base import SDE, SDEError
from sdediff.sde.processes import EDM, VE, VP, RectifiedFlow

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """How a network is read: the fields of ScoreModel by the same names.

    range: of the data that the library's pipelines expect. notes: what the configuration says of sampling and does not
    change the model, a sentence each.
    """

    sde: SDE
    predicts: str
    time: str | Clock | Callable[[Level], Any]
    sigma_data: float = 1.0
    range: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


_PREDICTS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v", "flow_prediction": "velocity"}


def reading_of(config: Config) -> Reading:
    """The reading of a scheduler_config.json.

    Raises BridgeError: a scheduler whose network is no score model or that is unknown, settings that contradict.
    """
    kind = str(config.get("_class_name")).removesuffix("Scheduler")
    if kind in _REFUSED:
        raise BridgeError(f"{kind}Scheduler: {_REFUSED[kind]}")
    if kind not in SCHEDULERS:
        raise BridgeError(
            f"_class_name: {nearest(kind, SCHEDULERS, 'scheduler')}; for another one say what its network predicts: "
            "sd.ScoreModel(network, process, predicts=..., time=...)"
        )
    try:
        return SCHEDULERS[kind](config, kind)
    except (SDEError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BridgeError):
            raise
        raise BridgeError(f"{kind}Scheduler cannot be read ({error}): mend scheduler_config.json") from error


def _discrete(config: Config, kind: str) -> Reading:
    """DDPM's table, with the index counted from 0 as the clock; or a flow, where the scheduler is told so."""
    predicts = _predicted(config, kind)
    if config.get("use_flow_sigmas"):
        if predicts == "v":
            raise BridgeError(f"{kind}Scheduler has v_prediction with use_flow_sigmas: the library does not train it")
        return _flow(config, kind, predicts)
    if predicts == "velocity":
        raise BridgeError(f"{kind}Scheduler has flow_prediction without use_flow_sigmas: write use_flow_sigmas=true")
    table, notes = table_of(config, kind), (*_clipping(config), *_spacing(config))
    if config.get("timestep_type") == "continuous" and predicts == "v":
        # v and the state over sqrt(1 + sigma^2) are EDM's preconditioning with sigma_data = 1 and the other sign.
        least, most = (math.exp(-lam) for lam in (table.lams[0], table.lams[-1]))
        least, most = config.get("sigma_min") or least, config.get("sigma_max") or most
        return Reading(EDM(T=float(most), t_min=float(least)), "-edm", "c_noise", notes=notes)
    return Reading(table, predicts, "index", range=_range(config), notes=notes)


def _flow(config: Config, kind: str, predicts: str = "velocity") -> Reading:
    """x_t = (1 - t) x0 + t eps, read at num_train_timesteps t."""
    notes = []
    shift = config.get("flow_shift", config.get("shift", 1.0))
    if config.get("use_dynamic_shifting"):
        notes.append('the grid is shifted by the size of the state: grid="time_shift" with shift=exp(mu)')
    elif shift not in (None, 1, 1.0):
        notes.append(f'shift {shift:g} is the grid\'s: sd.grid(model.sde, calls, "time_shift", shift={shift:g})')
    if config.get("invert_sigmas"):
        raise BridgeError(f"{kind}Scheduler has invert_sigmas: time runs from data to noise, which is not read here")
    scale = float(config.get("num_train_timesteps", 1000))
    return Reading(RectifiedFlow(), predicts, Clock("t", scale), notes=(*notes, *_spacing(config)))


def _edm(config: Config, kind: str) -> Reading:
    """Karras et al. 2022, with c_out of the other sign for v_prediction."""
    cosine = kind == "CosineDPMSolverMultistep"
    predicts = _predicted(config, kind, "v_prediction" if cosine else "epsilon")
    if predicts not in ("eps", "v"):
        raise BridgeError(f"{kind}Scheduler has prediction_type {config['prediction_type']!r}: the library refuses it")
    least, most, data = (0.3, 500.0, 1.0) if cosine else (0.002, 80.0, 0.5)
    sde = EDM(T=float(config.get("sigma_max", most)), t_min=float(config.get("sigma_min", least)))
    time = angle_clock if cosine else "c_noise"
    schedule = config.get("sigma_schedule", "exponential" if cosine else "karras")
    grid = "log_snr" if schedule == "exponential" else "karras"
    notes = (f'sigmas are spaced as by grid="{grid}"',)
    output = "-edm" if predicts == "v" else "edm"
    return Reading(sde, output, time, float(config.get("sigma_data", data)), notes=notes)


def _score_ve(config: Config, kind: str) -> Reading:
    """Song et al. 2021: sigma as the clock and the score as the output."""
    ends = float(config.get("sigma_min", 0.01)), float(config.get("sigma_max", 1348.0))
    return Reading(VE(*ends, t_min=float(config.get("sampling_eps", 1e-5))), "score", "sigma", range=(0.0, 1.0))


def _score_vp(config: Config, kind: str) -> Reading:
    """Song et al. 2021: eps, at (N - 1) t."""
    sde = VP(float(config.get("beta_min", 0.1)), float(config.get("beta_max", 20.0)))
    return Reading(sde, "eps", Clock("t", config.get("num_train_timesteps", 2000) - 1.0), range=(0.0, 1.0))


def _predicted(config: Config, kind: str, default: str = "epsilon") -> str:
    given = config.get("prediction_type", default)
    if given not in _PREDICTS:
        raise BridgeError(f"{kind}Scheduler: {nearest(str(given), _PREDICTS, 'prediction_type')}")
    return _PREDICTS[given]


def _range(config: Config) -> tuple[float, float] | None:
    """Pixels are in [-1, 1] where x0 is clipped to it; latents are not clipped."""
    return (-1.0, 1.0) if config.get("clip_sample") and config.get("clip_sample_range", 1.0) == 1.0 else None


def _clipping(config: Config) -> list[str]:
    notes = []
    if config.get("clip_sample"):
        end = config.get("clip_sample_range", 1.0)
        notes.append(f"the library clips x0 to [-{end:g}, {end:g}], which is not applied: sd.guidance.clip(model, ...)")
    if config.get("thresholding"):
        share = config.get("dynamic_thresholding_ratio", 0.995)
        notes.append(f"the library thresholds x0, which is not applied: sd.guidance.threshold(model, {share:g}, ...)")
    if str(config.get("variance_type", "")).startswith("learned"):
        kind = config["variance_type"]
        notes.append(f'the network gives the variance too: sd.solver("ddpm", variance="{kind}")')
    return notes


def _spacing(config: Config) -> list[str]:
    grids = {"use_karras_sigmas": "karras", "use_exponential_sigmas": "log_snr", "use_beta_sigmas": "beta"}
    return [f'sigmas are spaced as by grid="{grid}"' for flag, grid in grids.items() if config.get(flag)]


_Reader = Callable[[Config, str], Reading]
# By the class's name without "Scheduler".
SCHEDULERS: dict[str, _Reader] = {
    **dict.fromkeys(
        (
            "DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "DDIMInverse", "PNDM", "DPMSolverMultistep",
            "DPMSolverMultistepInverse", "DPMSolverSinglestep", "DPMSolverSDE", "EulerDiscrete",
            "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "LMSDiscrete",
            "DEISMultistep", "UniPCMultistep", "SASolver", "RePaint",
        ),
        _discrete,
    ),
    **dict.fromkeys(("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete"), _flow),
    **dict.fromkeys(("EDMEuler", "EDMDPMSolverMultistep", "CosineDPMSolverMultistep"), _edm),
    "ScoreSdeVe": _score_ve,
    "ScoreSdeVp": _score_vp,
}  # fmt: skip

_JUMPS = "its network was distilled to jump to data in a few steps and gives no score: use the library's own sampler"
_TOKENS = "its network predicts tokens, not numbers: there is no score"
_REFUSED = {
    **dict.fromkeys(("CMStochasticIterative", "LCM", "TCD", "FlowMatchLCM", "SCM", "ConsistencyDecoder"), _JUMPS),
    **dict.fromkeys(("Amused", "VQDiffusion", "BlockRefinement", "EntropyBound", "DiscreteDDIM"), _TOKENS),
}
