"""Text to latents by the pipelines' own loop beside ours, scheduler by scheduler, in float32 as they are shipped."""

from typing import Any

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch

import sdediff as sd
from sdediff import bridges
from tests.bridges.small import MARKS
from tests.bridges.tiny_pipeline import parts, pipeline, scheduler, start

pytestmark = MARKS
SPACINGS = ("leading", "trailing", "linspace")
KINDS = ("DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler")
V: dict[str, Any] = {"prediction_type": "v_prediction"}
ZERO = {**V, "rescale_betas_zero_snr": True}
PROMPT = "a red bag"


def gap_to_the_library(kind: str, calls: int, **config: Any) -> float:
    """The largest difference of the latents, over the largest latent."""
    pipe = pipeline(kind, **config)
    model = sd.from_diffusers(pipe)
    made = pipe(PROMPT, num_inference_steps=calls, guidance_scale=1.0, latents=start(1), output_type="latent")
    options = bridges.scheduler_options(model, calls)
    first = sd.level(model.sde, options["grid"][0].item())
    # The library's start is unit noise times init_noise_sigma, for Euler in the frame x/alpha.
    frame = first.alpha if kind.startswith("Euler") else 1.0
    x = start(1).double() * float(pipe.scheduler.init_noise_sigma) * frame
    ours = sd.sample(model.given(**model.text_encoder(PROMPT)), x=x.float(), **options)
    return ((ours - made.images).abs().max() / made.images.abs().max()).item()


def bound(kind: str, config: dict[str, Any]) -> float:
    """Euler's scheduler computes in the frame x/alpha, at zero terminal SNR 4096 times as large at the start."""
    return 1e-4 if kind.startswith("Euler") and "rescale_betas_zero_snr" in config else 1e-5


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_latents_are_the_librarys(kind, spacing):
    assert gap_to_the_library(kind, 7, timestep_spacing=spacing) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [V, ZERO], ids=["v", "zero terminal SNR"])
def test_latents_of_v_prediction_are_the_librarys(kind, config):
    assert gap_to_the_library(kind, 7, timestep_spacing="trailing", **config) < bound(kind, config)


@pytest.mark.slow
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [{}, V, ZERO], ids=["eps", "v", "zero terminal SNR"])
def test_latents_of_longer_runs_are_the_librarys(kind, spacing, config):
    gaps = [gap_to_the_library(kind, calls, timestep_spacing=spacing, **config) for calls in (5, 20, 30)]
    assert max(gaps) < bound(kind, config)


ENDS: list[tuple[dict[str, Any], int, str, list[float], bool]] = [
    ({}, 4, "DDIM", [752, 502, 252, 2, 1], False),
    ({"set_alpha_to_one": True}, 4, "DDIM", [752, 502, 252, 2], True),
    ({"steps_offset": 0}, 4, "DDIM", [751, 501, 251, 1], False),
    ({"timestep_spacing": "trailing"}, 4, "DDIM", [1000, 750, 500, 250, 1], False),
    ({"timestep_spacing": "trailing"}, 3, "StridedDDIM", [1000, 667, 333, 1], False),
    ({"timestep_spacing": "linspace", "set_alpha_to_one": True}, 4, "StridedDDIM", [1000, 667, 334, 1], True),
]


@pytest.mark.parametrize(("config", "calls", "name", "times", "denoise"), ENDS)
def test_grid_and_last_step_of_ddims_scheduler(config, calls, name, times, denoise):
    options = bridges.scheduler_options(sd.from_diffusers((parts(4)[2], scheduler("DDIMScheduler", **config))), calls)
    assert type(options["solver"]).__name__ == name
    assert (options["grid"].tolist(), options["denoise"]) == (times, denoise)


def test_a_step_of_the_uneven_grid_ends_where_its_stride_says():
    options = bridges.scheduler_options(sd.from_diffusers(pipeline(timestep_spacing="linspace")), 4)
    exact = sd.target("target_m").model(sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)))
    t, u = (sd.level(exact.sde, float(time)) for time in (1000, 750))
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sd.sample(exact, x=x, solver=options["solver"], grid=[1000.0, 667.0], denoise=False)
    prediction = exact(x, t)
    torch.testing.assert_close(found, u.alpha * prediction.x0 + u.sigma * prediction.eps, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("adaptive", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_solver_runs_on_a_pipeline(adaptive):
    model = sd.from_diffusers(pipeline())
    prompted = model.given(**model.text_encoder(["a red bag", "a big hat"]))
    names = [name for name in sd.list_solvers() if sd.solver(name).alone and sd.solver(name).adaptive is adaptive]
    assert len(names) >= (4 if adaptive else 50)
    for name in names:
        options: dict[str, Any] = {} if adaptive else {"steps": 2, "grid": "log_snr"}
        assert sd.sample(prompted, (2, 4, 8, 8), solver=name, **options).isfinite().all(), name


def test_schedulers_without_a_solver_here_are_refused_by_name():
    model = sd.from_diffusers(pipeline("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++"))
    with pytest.raises(bridges.BridgeError, match="sde-dpmsolver"):
        bridges.scheduler_options(model, 4)
    model = sd.from_diffusers(pipeline("LMSDiscreteScheduler"))
    with pytest.raises(bridges.BridgeError, match=r"unknown scheduler 'LMSDiscrete'.*scheduler_times"):
        bridges.scheduler_options(model, 4)
