"""Whole runs of diffusers' schedulers on its own small networks, beside ours of the model that is read from them."""

from typing import Any

import pytest

pytest.importorskip("diffusers")

import sdediff as sd
from sdediff import bridges
from tests.bridges.small import MARKS, Theirs, start, unet

pytestmark = MARKS
PLAIN = {"clip_sample": False}
ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
HEUN = sd.solver("heun", variable="sigma")

# diffusers' scheduler, its configuration, our solver.
RUNS: list[tuple[str, dict[str, Any], Any]] = [
    ("DDIMScheduler", PLAIN, "ddim"),
    ("DDIMScheduler", {**PLAIN, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}, "ddim"),
    ("DDIMScheduler", {**PLAIN, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"}, "ddim"),
    ("DDIMScheduler", {**PLAIN, **ZERO, "prediction_type": "v_prediction"}, "ddim"),
    ("DDIMScheduler", {**PLAIN, "timestep_spacing": "leading", "steps_offset": 1}, "ddim"),
    ("DDIMScheduler", {**PLAIN, "trained_betas": [0.01 * (i + 1) for i in range(40)],
                       "num_train_timesteps": 40}, "ddim"),
    ("DPMSolverMultistepScheduler", {}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"prediction_type": "sample"}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}, "dpmpp_2m"),
    ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"},
     "dpmpp_2m"),
    ("UniPCMultistepScheduler", {}, "unipc"),
    ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}, "unipc"),
    ("EulerDiscreteScheduler", {}, "ddim"),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "beta_schedule": "scaled_linear"}, "ddim"),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}, "ddim"),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction", "timestep_type": "continuous", "sigma_min": 0.002,
                                "sigma_max": 700.0, "use_karras_sigmas": True}, "ddim"),
    ("HeunDiscreteScheduler", {"beta_schedule": "scaled_linear"}, HEUN),
    ("HeunDiscreteScheduler", {"prediction_type": "v_prediction"}, HEUN),
    ("FlowMatchEulerDiscreteScheduler", {}, "ddim"),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "euler"),
    ("FlowMatchHeunDiscreteScheduler", {"shift": 2.0}, "heun"),
    ("EDMEulerScheduler", {}, "ddim"),
    ("EDMEulerScheduler", {"prediction_type": "v_prediction", "sigma_data": 0.7, "sigma_schedule": "exponential"},
     "ddim"),
    ("EDMDPMSolverMultistepScheduler", {}, "dpmpp_2m"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "config", "solver"), RUNS, ids=lambda v: str(v)[:60])
def test_a_run_is_the_librarys(kind, config, solver):
    network, calls = unet(), 10
    theirs = Theirs(kind, **config)
    model = bridges.from_diffusers((network, theirs.scheduler))
    times = bridges.scheduler_times(model, calls)
    assert len(times) == calls
    first = sd.level(model.sde, times[0].item())
    kappa = kind.startswith(("Euler", "Heun"))
    x = start() * (1.0 if kappa is False and first.alpha < 0.9 else first.kappa)
    ours = sd.sample(model, x=x * (first.alpha if kappa else 1.0), solver=solver, grid=times)
    expected = theirs.run(network, x, calls, whole=not config.get("use_flow_sigmas"))
    gap = (ours - expected).abs().max() / expected.abs().max()
    assert gap < 2e-5, f"{gap:.2e}"
