"""--image, --strength and --mask of a latent model: pictures pass the autoencoder, masks shrink to latents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch
from PIL import Image
from torch import Tensor

import sdediff as sd
from sdediff import inverse
from tests.bridges.small import MARKS
from tests.bridges.tiny_pipeline import pipeline
from tests.cli.output import parsed

pytestmark = MARKS
PROMPT = "a red bag"
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
IMAGE = torch.from_numpy(PIXELS.transpose(2, 0, 1)[None].copy()).float() / 255 * 2 - 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pipelines, the second trained to inpaint, a picture, and a mask of its columns from the ninth on."""
    place = tmp_path_factory.mktemp("latent images")
    pipeline().save_pretrained(place / "plain")
    pipeline(channels=9).save_pretrained(place / "inpaint")
    Image.fromarray(PIXELS).save(place / "image.png")
    anew = np.zeros((16, 16), np.uint8)
    anew[:, 9:] = 255
    Image.fromarray(anew).save(place / "mask.png")
    np.save(place / "image.npy", IMAGE.numpy())
    return place


def _drawn(run: Any, place: Path, model: str, *words: Any) -> dict[str, Tensor]:
    base = ("sample", place / model, "--prompt", PROMPT, "-n", 2, "--steps", 4, "--json", "--quiet", "--seed", 3)
    said = parsed(run(*base, "--image", place / "image.png", *words, "--out", place / "out"))
    assert said["samples_of"] == "images, decoded from the latents z"
    with np.load(said["files"]["npz"]) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored}


def _told(place: Path, name: str) -> sd.ScoreModel:
    model = sd.load(place / name)
    return model.given(**model.text_encoder(PROMPT))


def test_a_picture_is_encoded_and_changed(run: Any, place: Path) -> None:
    found, model = _drawn(run, place, "plain", "--strength", 0.5), _told(place, "plain")
    rows = model.autoencoder.encode(IMAGE).expand(2, -1, -1, -1)
    expected = inverse.image_to_image(model, rows, 0.5, steps=4, seed=3)
    torch.testing.assert_close(found["z"], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["x"], model.autoencoder.decode(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["replacement", "ddrm"])
def test_latents_outside_of_the_mask_are_the_pictures(run: Any, place: Path, method: str) -> None:
    found = _drawn(run, place, "plain", "--mask", place / "mask.png", "--method", method)["z"]
    encoded = sd.load(place / "plain").autoencoder.encode(IMAGE).expand(2, -1, -1, -1)
    torch.testing.assert_close(found[..., :4], encoded[..., :4], rtol=1e-5, atol=1e-6)
    assert ((found - encoded)[..., 4:].abs() > 1e-3).float().mean() > 0.99  # the ninth column lies in the fifth


def test_a_network_trained_to_inpaint_is_given_mask_and_picture(run: Any, place: Path) -> None:
    found, model = _drawn(run, place, "inpaint", "--mask", place / "mask.png"), _told(place, "inpaint")
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 9:] = 1
    kept = model.autoencoder.encode(IMAGE * (1 - mask))
    small = torch.nn.functional.interpolate(mask, size=(8, 8))
    concat = torch.cat([small, kept], 1).expand(2, -1, -1, -1)
    expected = sd.sample(model.given(concat=concat), (2, 4, 8, 8), steps=4, seed=3)
    torch.testing.assert_close(found["z"], expected, rtol=1e-4, atol=1e-4)


def test_what_is_neither_image_nor_latents_is_one_line(run: Any, place: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.zeros((1, 3, 20, 20), np.float32))
    np.save(tmp_path / "z.npy", np.zeros((1, 4, 8, 8), np.float32))
    mask = ("--mask", place / "mask.png")
    cases: list[tuple[str, tuple[Any, ...], str]] = [
        (
            "plain",
            ("--image", tmp_path / "other.npy"),
            r"--image: .*holds \(3, 20, 20\), needed is \(3, 16, 16\) or \(",
        ),
        ("plain", ("--image", place / "image.npy", "--mask", tmp_path / "other.npy"), "--mask: .* needed is"),
        ("inpaint", ("--image", place / "image.png", *mask, "--method", "dps"), "--method: the network was trained"),
        ("inpaint", ("--image", tmp_path / "z.npy", *mask), "--image: the network reads a masked image's latents"),
    ]
    for name, words, message in cases:
        code, _, err = run("sample", place / name, "--prompt", PROMPT, "-n", 2, *words, "--out", tmp_path / "out")
        assert code == 2
        assert len(err.strip().splitlines()) == 1, err
        assert re.search(message, err), err


def test_an_adapter_is_fitted_to_the_latents_of_images(run: Any, place: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from safetensors.torch import load_file

    images = IMAGE * torch.tensor([1.0, 0.5])[:, None, None, None]
    np.save(tmp_path / "images.npy", images.numpy())
    np.save(tmp_path / "z.npy", sd.load(place / "plain").autoencoder.encode(images).numpy())
    files = []
    for data in ("images", "z"):
        files.append(tmp_path / f"{data}.safetensors")
        words = ("adapt", place / "plain", tmp_path / f"{data}.npy", "--prompt", PROMPT, "--updates", 3, "--batch", 2)
        code, _, err = run(*words, "--out", files[-1], "--quiet")
        assert code == 0, err
    first, second = map(load_file, files)
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-3, atol=1e-5)
    assert max(value.abs().max().item() for name, value in first.items() if "lora_B" in name) > 1e-4
