"""Likelihood jobs of a latent model: rows that are latents, and images by the encoder-decoder bound."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import sdediff as sd
from sdediff.datasets import DataSet
from sdediff.jobs import likelihood_work
from sdediff.jobs.summary import read_results
from sdediff.likelihood import bits_per_dim, decoder_std, encoder_decoder_bound

RUN: dict[str, Any] = {"trace": "rademacher", "probes": 1, "rtol": 0.1, "atol": 0.1, "dtype": torch.float64}
LEVELS = np.random.default_rng(0).integers(0, 17, (5, 1, 8, 8)).astype(np.int64)


class Halves:
    """Means of 2 x 2 pixels as the latents of q, of deviation 0.1, and pixels of one value."""

    def encode(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, 2)

    def decode(self, latents: Tensor) -> Tensor:
        return functional.interpolate(latents, scale_factor=2)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.encode(images)
        return mean, torch.full_like(mean, 0.1)


@pytest.fixture(scope="module")
def model() -> sd.ScoreModel:
    net = sd.training.build(lambda: sd.nets.UNet(width=4, multiples=(1,), blocks=1, attention=0)).eval()
    return sd.ScoreModel(net, sd.VP(), autoencoder=Halves(), card={"data": {"shape": [1, 4, 4]}})


def test_latents_are_scored_as_latents(model: sd.ScoreModel, tmp_path: Path) -> None:
    z = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    summary = sd.likelihood_job(model, z, tmp_path, of="latents", check=False, **RUN)
    expected = sd.log_likelihood(model, z, autoencoder=torch.zeros(5, dtype=torch.float64), **RUN)
    np.testing.assert_allclose(read_results(tmp_path)["log_prob"], expected.log_prob, rtol=1e-9)
    assert summary is not None
    assert (summary.of, summary.dims) == ("latents", 16)
    assert str(summary.density).endswith("of latents")


@pytest.mark.parametrize("micro_batch", [5, 2])
def test_images_are_bounded_row_by_row(model: sd.ScoreModel, tmp_path: Path, micro_batch: int) -> None:
    options: dict[str, Any] = {"of": "images", "decoder_std": 0.3, "levels": 17, "range": (0, 16), "check": False}
    summary = sd.likelihood_job(model, LEVELS, tmp_path, micro_batch=micro_batch, **options, **RUN)
    data = DataSet(LEVELS, 17, (0, 16))
    images = data.dequantised(0, dtype=torch.float64)
    expected = encoder_decoder_bound(model, images, std=0.3, **RUN)
    found = read_results(tmp_path)
    np.testing.assert_allclose(found["log_prob"], expected.log_prob, atol=1e-5)
    np.testing.assert_allclose(found["bits_per_dim"], bits_per_dim(expected, levels=17, range=(-1, 1)), atol=1e-6)
    assert summary is not None
    assert (summary.of, summary.dims) == ("images", 64)
    assert summary.density == "a bound on p of the dequantised images, by encoder and decoder"
    assert math.isfinite(summary.log_prob or math.nan)


def test_what_the_data_cannot_be_is_refused(model: sd.ScoreModel, tmp_path: Path) -> None:
    images, plain = DataSet(LEVELS, 17, (0, 16)), sd.load("digits-vp")
    measured = decoder_std(model, images.dequantised(0))
    cases: list[tuple[Any, Any, dict[str, Any], str]] = [
        (model, images, {"of": "images"}, f"needs the decoder's deviation.*here it is {measured:.3g}"),
        (model, images, {"of": "pictures"}, "of: unknown kind of data 'pictures': did you mean 'images'"),
        (model, images, {"decoder_std": 0.1}, "decoder_std has no effect without of='images'"),
        (plain, images, {"of": "latents"}, "the model has no autoencoder, its states are the data"),
        (model, 3 * np.ones((2, 1, 8, 8)), {"of": "images", "decoder_std": 1.0}, "reads images in .-1, 1.: declare"),
        (model, np.zeros((2, 1, 6, 6)), {"of": "images", "decoder_std": 1.0}, r"have latents \(1, 3, 3\), the model"),
        (model, np.zeros((2, 4)), {"of": "images", "decoder_std": 1.0}, r"images \(channels, height, width\)"),
    ]
    for one, data, options, match in cases:
        with pytest.raises(sd.Error, match=match):
            likelihood_work(one, data, **options)
    with pytest.raises(sd.Error, match=r"In a job: of='latents' or of='images', on the command line --of"):
        sd.likelihood_job(model, torch.zeros(2, 1, 4, 4), tmp_path, check=False, **RUN)
