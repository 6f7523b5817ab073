"""Likelihood jobs of latent models: of data that are latents, or of images by the encoder-decoder bound."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import known, number
from sdediff._utils.suggestions import nearest
from sdediff.datasets import DataError, DataSet
from sdediff.jobs.errors import JobError
from sdediff.jobs.fitting import extent_of
from sdediff.jobs.inputs import Range, states
from sdediff.likelihood import Likelihood, decoder_std, encoder_decoder_bound, log_likelihood
from sdediff.model.data_card import DataCard
from sdediff.model.parts import states_of
from sdediff.model.score_model import ScoreModel

OF = ("latents", "images")
BOUNDS: Range = (-1.0, 1.0)  # of the images that an autoencoder reads
_FIRST, _BEYOND = 128, 0.05


def check_of(model: ScoreModel, of: str | None, std: float | None) -> None:
    """Refuse what a latent model's data cannot be; None leaves it to the likelihood, which refuses latents then."""
    if of is not None and not known(of, OF):
        raise JobError(f"of: {nearest(of, OF, 'kind of data')}")
    if of is not None and states_of(model) != "latents":
        raise JobError(f"of={of!r}: the model has no autoencoder, its states are the data: leave it out")
    if of == "images" and model.autoencoder is None:
        raise JobError(
            "of='images': the model's card speaks of an autoencoder, and the model has none: give the latents"
        )
    if std is not None and of != "images":
        raise JobError("decoder_std has no effect without of='images': leave it out")


def image_rows(model: ScoreModel, data: DataSet, std: float | None) -> DataSet:
    """The images, refused where they are none, or where the deviation of the decoder is not said."""
    if len(data.shape) != 3:
        raise DataError(f"{data.name} has samples of shape {data.shape}: images (channels, height, width) are needed")
    if data.levels is None and data.range is None:
        extent = extent_of(data)
        if extent.least < BOUNDS[0] - _BEYOND or extent.most > BOUNDS[1] + _BEYOND:
            raise DataError(
                f"{data.name} holds values from {extent.least:.4g} to {extent.most:.4g}, and an autoencoder reads "
                "images in [-1, 1]: declare their range, --range low,high, in Python range="
            )
    _check_encoded(model, data)
    if std is None:
        found = decoder_std(model, first_images(data))
        raise JobError(
            "of='images' needs the decoder's deviation, decoder_std=, --decoder-std: the root mean square error of its "
            f"reconstructions, sd.likelihood.decoder_std(model, images) of training images; here it is {found:.3g}"
        )
    number("decoder_std", std)
    return data


def _check_encoded(model: ScoreModel, data: DataSet) -> None:
    """Refuse images that are not encoded to a state of the model."""
    needed = DataCard.of(model.card).shape
    try:
        found = tuple(first_states(model, data.head(1)).shape[1:])
    except RuntimeError as error:  # of another number of channels, of sides that do not halve
        raise DataError(f"{data.name}: the autoencoder cannot read {data.shape} ({error})") from error
    if needed is not None and found != needed:
        raise DataError(f"{data.name}: images {data.shape} have latents {found}, the model takes {needed}")


def first_images(data: DataSet) -> Tensor:
    """The first rows in the range of an autoencoder."""
    rows = [row for row in range(min(len(data), _FIRST)) if row not in set(data.bad_rows)]
    return states(data, rows, BOUNDS, 0 if data.levels is not None else None, torch.float32)


def first_states(model: ScoreModel, data: DataSet) -> Tensor:
    """The latents of the first images, for the check before a job."""
    with torch.no_grad():
        found: Tensor = model.autoencoder.encode(first_images(data))
        return found


def scored(model: ScoreModel, x: Tensor, of: str | None, std: float | None, **options: Any) -> Likelihood:
    """log p of a batch of samples, of latents, or a bound on that of images."""
    if of == "images":
        return encoder_decoder_bound(model, x, std=number("decoder_std", std), **options)
    zeros = torch.zeros(len(x), dtype=torch.float64) if of == "latents" else None
    return log_likelihood(model, x, autoencoder=zeros, **options)
