"""Inpainting, colourisation, strength, inversion and editing."""

from __future__ import annotations

import pytest
import torch

import sdediff as sd
from sdediff import inverse
from sdediff.inverse.images import steps_of
from tests.guidance.mixtures import labelled
from tests.inverse.measured import F64, model


@pytest.mark.parametrize("by", ["repaint", "replacement", "dps", "mcg", "pigdm", "tmpd", "diffpir", "ddrm"])
def test_known_pixels_are_exact(by: str) -> None:
    target = sd.target("gmm64")
    image = target.sample(2)
    known = torch.arange(64).reshape(1, 8, 8) % 3 > 0
    options = {"resamplings": 2, "jump": 3} if by == "repaint" else {}
    x = inverse.inpaint(target.model(sd.VP()), image, known, by=by, steps=6, **options)
    assert torch.equal(x[:, known], image[:, known])
    assert not torch.equal(x, image)
    assert x.dtype == image.dtype


def test_colourisation_keeps_the_grey_image() -> None:
    target = sd.target("gmm768")
    grey = target.sample(2, dtype=F64).mean(1, keepdim=True)
    x = inverse.colourise(target.model(sd.VP()), grey, by="replacement", steps=6)
    assert x.shape == (2, 3, 16, 16)
    torch.testing.assert_close(x.mean(1, keepdim=True), grey, rtol=1e-12, atol=1e-12)


def test_repaint_goes_up_and_down_again() -> None:
    """Ten steps in stretches of two, each walked three times: 10 + 5 * 2 * 2 evaluations, and the last jump."""
    one = model()
    solver = inverse.Replacement(
        sd.solver("ddim"), inverse.Problem(inverse.Mask(torch.tensor([True, False])), [0.4]), 3, 2
    )
    run = sd.sample(one, (3, 2), solver=solver, steps=10, full=True)
    assert run.calls == 31
    assert solver.spent(10) == 30
    multistep = inverse.Replacement(sd.solver("dpmpp_3m"), solver.problem, 3, 2)
    x = sd.sample(one, (3, 2), solver=multistep, steps=10, dtype=F64)
    assert x.isfinite().all()
    assert torch.equal(x[1:2], sd.sample(one, (1, 2), solver=multistep, steps=10, dtype=F64, index=1))


def test_strengths_are_counted_without_rounding_down() -> None:
    assert steps_of(50, 0.58) == 29
    assert steps_of(100, 0.29) == 29
    assert steps_of(50, 0.59) == 29
    assert steps_of(7, 1.0) == 7


def test_image_to_image_begins_where_the_strength_says() -> None:
    one, image = model(), torch.tensor([[0.9, -1.0], [1.0, 1.2]], dtype=F64)
    plan = sd.Sampler(one, solver="ddim", steps=10).plan()
    x = inverse.image_to_image(one, image, 0.3, solver="ddim", steps=10, seed=4)
    start = sd.level(one.sde, plan.times[7].item())
    noised = start.alpha * image + start.sigma * sd.noise.Counter(4).initial(image)
    torch.testing.assert_close(x, sd.sample(one, x=noised, solver="ddim", grid=plan.times[7:]), rtol=1e-12, atol=1e-12)
    full = inverse.image_to_image(one, image, 1.0, solver="ddim", steps=10, seed=4)
    torch.testing.assert_close(full, sd.sample(one, (2, 2), solver="ddim", steps=10, seed=4, dtype=F64))
    for strength in (0.0, 1.2):
        with pytest.raises(sd.Error, match=r"a number in \(0, 1\]"):
            inverse.image_to_image(one, image, strength)
    with pytest.raises(sd.Error, match="too long to be inverted"):
        inverse.invert(one, image, steps=5, grid="uniform", iterations=20)
    with pytest.raises(sd.Error, match="leaves none to make"):
        inverse.image_to_image(one, image, 0.05, steps=10)


def test_fixed_points_invert_ddim_and_explicit_steps_to_first_order() -> None:
    one, image = model(), sd.target("target_m").sample(6, dtype=F64)
    errors = {}
    for steps, iterations in ((40, 0), (80, 0), (80, 40)):
        z = inverse.invert(one, image, steps=steps, iterations=iterations)
        run = sd.sample(one, x=z, solver="ddim", steps=steps, grid="log_snr", denoise=False, full=True)
        back, scale = run.x, sd.level(one.sde, run.times[-1].item()).alpha
        errors[steps, iterations] = (back / scale - image).norm(dim=1).median().item()
    assert errors[80, 40] < 1e-9
    assert 1.6 < errors[40, 0] / errors[80, 0] < 2.6


def test_editing_moves_between_classes_and_keeps_the_source() -> None:
    one = labelled()
    image = torch.tensor([[-1.4], [0.6], [-1.2]], dtype=F64)
    same = inverse.edit(one, image, {"label": 0}, {"label": 0}, steps=40, iterations=20)
    torch.testing.assert_close(same, image, rtol=0, atol=0.05)
    moved = inverse.edit(one, image, {"label": 0}, {"label": 1}, steps=40)
    assert (moved - 1.5).abs().max() < 0.7
    guided = sd.guidance.classifier_free(one, 2.0)
    assert inverse.edit(one, image, {"label": 0}, {"label": 1}, guided=guided, steps=20).isfinite().all()
