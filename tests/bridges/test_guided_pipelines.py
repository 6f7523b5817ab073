"""Guidance, negative prompts, images to images and inpainting by the pipelines' own loops beside ours, in float32."""

from typing import Any

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch
from torch import Tensor

import sdediff as sd
from sdediff import bridges
from tests.bridges.small import MARKS, diffusers
from tests.bridges.tiny_pipeline import pipeline, start

pytestmark = MARKS
SPACINGS = ("leading", "trailing", "linspace")
KINDS = ("DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler")
PROMPT, NEGATIVE, SCALE = "a red bag", "a bad hat", 4.0


def guided(model: Any, **more: Any) -> Any:
    return sd.guidance.classifier_free(
        model.given(**model.text_encoder(PROMPT), **more), SCALE, negative=model.text_encoder(NEGATIVE)
    )


def begun(model: Any, pipe: Any, noise: Tensor, first: Any) -> Tensor:
    """The library's start, its noise times init_noise_sigma, in our frame."""
    frame = first.alpha if type(pipe.scheduler).__name__.startswith("Euler") else 1.0
    return (noise.double() * float(pipe.scheduler.init_noise_sigma) * frame).float()


def gap(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_guidance_with_a_negative_prompt_is_the_librarys(kind, spacing):
    pipe = pipeline(kind, timestep_spacing=spacing)
    model = sd.from_diffusers(pipe)
    theirs = pipe(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=6, guidance_scale=SCALE, latents=start(1),
        output_type="latent",
    ).images  # fmt: skip
    options = bridges.scheduler_options(model, 6)
    x = begun(model, pipe, start(1), sd.level(model.sde, options["grid"][0].item()))
    assert gap(sd.sample(guided(model), x=x, **options), theirs) < 1e-5


def test_rescaled_guidance_is_the_librarys():
    pipe = pipeline()
    model = sd.from_diffusers(pipe)
    theirs = pipe(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=4, guidance_scale=SCALE, guidance_rescale=0.7,
        latents=start(1), output_type="latent",
    ).images  # fmt: skip
    both = sd.guidance.classifier_free(
        model.given(**model.text_encoder(PROMPT)), SCALE, negative=model.text_encoder(NEGATIVE), rescale=0.7,
        space="eps",
    )  # fmt: skip
    assert gap(sd.sample(both, x=start(1), **bridges.scheduler_options(model, 4)), theirs) < 1e-5


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.5, 0.58])
def test_an_image_is_changed_as_by_the_library(kind, spacing, strength):
    plain = pipeline(kind, timestep_spacing=spacing)
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**plain.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    model, calls = sd.from_diffusers(plain), 10
    image = 0.8 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(8))  # latents are taken as they are
    theirs = pipe(
        PROMPT, image, negative_prompt=NEGATIVE, strength=strength, num_inference_steps=calls, guidance_scale=SCALE,
        generator=torch.Generator().manual_seed(9), output_type="latent",
    ).images  # fmt: skip
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    options = bridges.scheduler_options(model, calls)
    options["grid"] = options["grid"][calls - int(calls * strength) :]
    first = sd.level(model.sde, options["grid"][0].item())
    x = first.alpha * image + first.sigma * noise
    assert gap(sd.sample(guided(model), x=x, **options), theirs) < 1e-5


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_trained_to_inpaint_is_given_mask_and_image(kind, spacing):
    plain = pipeline(kind, channels=9, timestep_spacing=spacing)
    pipe = diffusers.StableDiffusionInpaintPipeline(**plain.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    model = sd.from_diffusers(plain)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(8)) * 2 - 1
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1.0
    with torch.no_grad():
        kept = model.autoencoder.encode(image * (mask < 0.5))
    theirs = pipe(
        PROMPT, (image + 1) / 2, mask, masked_image_latents=kept, negative_prompt=NEGATIVE, height=16, width=16,
        strength=1.0, num_inference_steps=6, guidance_scale=SCALE, latents=start(1), output_type="latent",
    ).images  # fmt: skip
    small = torch.nn.functional.interpolate(mask, size=(8, 8))
    options = bridges.scheduler_options(model, 6)
    x = begun(model, pipe, start(1), sd.level(model.sde, options["grid"][0].item()))
    ours = sd.sample(guided(model, concat=torch.cat([small, kept], 1)), x=x, **options)
    assert gap(ours, theirs) < 1e-5
    with pytest.raises(sd.Error, match=r"needs concat \(B, 5"):
        sd.sample(guided(model), x=x, **options)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_known_latents_are_put_back_after_each_step_as_by_the_library(kind, spacing):
    """A network that was not trained to inpaint: the known part is noised by the same normals at every level."""
    plain = pipeline(kind, timestep_spacing=spacing)
    pipe = diffusers.StableDiffusionInpaintPipeline(**plain.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    model = sd.from_diffusers(plain)
    image = 0.8 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(8))  # latents are taken as they are
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1.0
    theirs = pipe(
        PROMPT, image, mask, masked_image_latents=image, negative_prompt=NEGATIVE, height=16, width=16, strength=1.0,
        num_inference_steps=6, guidance_scale=SCALE, latents=start(1), output_type="latent",
    ).images  # fmt: skip
    known = torch.ones(4, 8, 8, dtype=torch.bool)
    known[..., 4:] = False
    problem = sd.inverse.Problem(sd.inverse.Mask(known), image[:, known])
    options = bridges.scheduler_options(model, 6)
    x = begun(model, pipe, start(1), sd.level(model.sde, options["grid"][0].item()))
    options["solver"] = sd.inverse.Replacement(options["solver"], problem, fixed=start(1))
    ours = sd.inverse.with_known(problem, sd.sample(guided(model), x=x, **options))
    assert gap(ours, theirs) < 1e-5
    assert torch.equal(ours[:, known], image[:, known])
    free = sd.sample(guided(model), x=x, **bridges.scheduler_options(model, 6))
    assert gap(free, theirs) > 1e-2
