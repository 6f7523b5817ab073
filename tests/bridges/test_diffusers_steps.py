"""Steps of diffusers' stochastic schedulers with our noise, and its denoised states, on its own small networks."""

from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

import sdediff as sd
from sdediff import bridges
from tests.bridges.small import F64, MARKS, Theirs, diffusers, start, unet

pytestmark = MARKS
PLAIN = {"clip_sample": False}


class Draws:
    """Unit normals in order, the same for two readers."""

    def __init__(self) -> None:
        self.made: list[torch.Tensor] = []

    def reader(self) -> Any:
        place = -1

        def draw(like: torch.Tensor, *_: Any) -> torch.Tensor:
            nonlocal place
            place += 1
            if place == len(self.made):
                generator = torch.Generator().manual_seed(place)
                self.made.append(torch.randn(like.shape, generator=generator, dtype=F64))
            return self.made[place]

        return draw


class Given(sd.Noise):
    """Noise in the order in which it is asked for."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def initial(self, like: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the start is given")

    def __call__(self, t: Any, s: Any, like: torch.Tensor, draw: int = 0) -> torch.Tensor:
        return self.draw(like)


@pytest.mark.parametrize(
    ("kind", "config", "out", "solver"),
    [
        ("DDPMScheduler", {**PLAIN, "variance_type": "fixed_small"}, 1, sd.solver("ancestral", variance="small")),
        ("DDPMScheduler", {**PLAIN, "variance_type": "fixed_small", "prediction_type": "v_prediction",
                           "beta_schedule": "sigmoid"}, 1, sd.solver("ancestral", variance="small")),
        ("DDPMScheduler", {**PLAIN, "variance_type": "learned_range", "prediction_type": "sample"}, 2,
         sd.solver("ancestral", variance="learned_range")),
        ("EulerAncestralDiscreteScheduler", {"beta_schedule": "scaled_linear"}, 1, "ancestral"),
    ],
    ids=lambda v: str(v)[:40],
)  # fmt: skip
def test_a_stochastic_run_is_the_librarys(kind, config, out, solver):
    network, draws = unet(out_channels=out), Draws()
    theirs = Theirs(kind, draws.reader(), **config)
    model = bridges.from_diffusers((network, theirs.scheduler))
    times = bridges.scheduler_times(model, 10)
    first = sd.level(model.sde, times[0].item())
    x = start() * (first.kappa if "Euler" in kind else 1.0)
    y = x * first.alpha if "Euler" in kind else x
    ours = sd.sample(model, x=y, solver=solver, grid=times, noise=Given(draws.reader()))
    expected = theirs.run(network, x, 10)
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


def test_the_first_step_of_score_sde_ve():
    network, n = unet(time_embedding_type="fourier"), 50
    theirs = diffusers.ScoreSdeVeScheduler(sigma_max=100.0)
    model = bridges.from_diffusers((network, theirs))
    assert (model.predicts, model.time, model.sde) == ("score", "sigma", sd.VE(0.01, 100.0, t_min=1e-5))
    theirs.set_timesteps(n)
    theirs.set_sigmas(n)
    x = 100 * start()
    output = network(x, theirs.sigmas[0].double()).sample
    expected = theirs.step_pred(output, theirs.timesteps[0], x).prev_sample_mean
    zero = Given(torch.zeros_like)
    ours = sd.sample(model, x=x, solver="reverse_diffusion", grid=[1.0, 1 - 1 / (n - 1)], noise=zero, denoise=False)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["EDMEulerScheduler", "CosineDPMSolverMultistepScheduler"])
@pytest.mark.parametrize("predicted", ["epsilon", "v_prediction"])
def test_preconditioned_networks_denoise_as_the_library_does(kind, predicted):
    network = unet()
    theirs = getattr(diffusers, kind)(prediction_type=predicted)
    model = bridges.from_diffusers((network, theirs))
    for sigma in (0.4, 3.0, 60.0):
        x = sigma * start()
        at = torch.tensor(sigma, dtype=F64)
        output = network(theirs.precondition_inputs(x, at), theirs.precondition_noise(at)).sample
        expected = theirs.precondition_outputs(x, output, at)
        torch.testing.assert_close(model(x, sigma).x0, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("predicted", ["epsilon", "sample", "v_prediction"])
def test_the_denoised_state_of_a_step_is_ours(predicted):
    network, theirs = unet(), Theirs("DDIMScheduler", prediction_type=predicted, **PLAIN)
    model = bridges.from_diffusers((network, theirs.scheduler))
    it, x = theirs.scheduler, start()
    it.set_timesteps(10)
    for t in (0, 450, 999):
        found = it.step(network(x, torch.tensor(t)).sample, t, x).pred_original_sample
        torch.testing.assert_close(model(x, t + 1.0).x0, found, rtol=1e-5, atol=1e-5)
