"""Options of `sample` for images to start from or to fill in; of a latent model they pass its autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.options import BadInput, naming

if TYPE_CHECKING:
    from torch import Tensor

    from sdediff.model.score_model import ScoreModel
    from sdediff.sampling.run import Plan

_PICTURES = (".png", ".jpg", ".jpeg")
_Size = tuple[int, ...]


@dataclass(frozen=True)
class ImageOptions:
    """The options that begin with an image, or fill in a part of it."""

    image: Annotated[
        Path | None, typer.Option(help="A picture or array to start from; several rows are taken in turn.")
    ] = None
    strength: Annotated[
        float | None, typer.Option(help="Of --image: the share of the steps that are made; 1 is noise alone.")
    ] = None
    mask: Annotated[
        Path | None, typer.Option(help="Of --image: a picture or array, not 0 (white) where it is filled in anew.")
    ] = None
    method: Annotated[
        str | None, typer.Option(help="Of --mask: repaint, replacement, dps, mcg, pigdm, tmpd, diffpir or ddrm.")
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """What was given of them, for the settings."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def check(self) -> None:
        """Refuse options that would have no effect."""
        if self.image is None and self.given:
            flag = next(iter(self.given))
            raise BadInput(f"--{flag}: it is of an image: write --image FILE too")
        if self.image is not None and self.strength is not None and self.mask is not None:
            raise BadInput("--strength: an image is varied by a strength or filled in by a mask, give one of them")
        if self.method is not None and self.mask is None:
            raise BadInput("--method: it is of --mask: leave it out")

    def drawn(
        self, model: ScoreModel, shape: _Size, planned: Plan, bounds: tuple[float, float], **run: Any
    ) -> tuple[Tensor, int]:
        """States (B, ...) that begin with the image, and the network evaluations."""
        from sdediff import inverse
        from sdediff.sampling.watch import CallCounter

        n, *rest = shape
        size = tuple(rest)
        images = _values(self.image, "--image", _sizes(model, size), bounds)
        counter, cond = CallCounter(), run.pop("cond")
        options = {"solver": planned.solver, "grid": planned.times, **run}
        told = model.map_net(counter.wrap).given(**cond or {})
        if self.mask is None:
            rows = _rows(_latents(model, images, size), n)
            with naming("--strength"):
                strength = 0.6 if self.strength is None else self.strength
                return inverse.image_to_image(told, rows, strength, **options), counter.calls
        if _reads_a_mask(model, size):
            return self._by_a_trained_network(model, told, images, shape, options), counter.calls
        anew = self._anew(size, tuple(images.shape[1:]))
        by = self.method or "repaint"
        if by == "ddrm":
            options.pop("solver")
        rows = _rows(_latents(model, images, size), n)
        with naming("--mask"):
            return inverse.inpaint(told, rows, ~anew.expand(size), by=by, **options), counter.calls

    def _anew(self, size: _Size, image: _Size) -> Tensor:
        """Where values of a state are filled in (1 or C, ...): of latents, where one covers a pixel of the mask."""
        from torch.nn import functional

        sizes = [(1, *image[1:]), image, size] if len(image) == 3 else [image]
        mask = (_values(self.mask, "--mask", sizes, (0.0, 1.0))[0] != 0).float()
        if mask.shape[1:] != size[1:]:
            mask = functional.adaptive_max_pool2d(mask.amax(0, keepdim=True)[None], size[1:])[0]
        return mask != 0

    def _by_a_trained_network(
        self, model: ScoreModel, told: ScoreModel, images: Tensor, shape: _Size, options: dict[str, Any]
    ) -> Tensor:
        """Samples of a network that reads the mask and the masked image's latents beside its states."""
        import torch
        from torch.nn import functional

        import sdediff as sd

        if self.method is not None:
            raise BadInput("--method: the network was trained to fill in a mask: leave it out")
        size, image = shape[1:], tuple(images.shape[1:])
        if image == size:
            raise BadInput("--image: the network reads a masked image's latents: give the image, not its latents")
        pixels = (_values(self.mask, "--mask", [(1, *image[1:]), image], (0.0, 1.0))[0].amax(0) != 0).to(images)
        kept = _latents(model, images * (1 - pixels), size)
        small = functional.interpolate(pixels[None, None], size=size[1:]).expand(len(kept), 1, *size[1:])
        concat = _rows(torch.cat([small, kept], 1), shape[0])
        return sd.sample(told.given(concat=concat), shape, **options)


def _reads_a_mask(model: ScoreModel, size: _Size) -> bool:
    """Whether a network of diffusers takes a mask and latents beside its states."""
    from sdediff.model.network import look

    more = [getattr(part, "more", 0) for module in look(model.net).modules for part in module.modules()]
    return model.autoencoder is not None and 1 + size[0] in more


def _sizes(model: ScoreModel, size: _Size) -> list[_Size]:
    """What an image may be: a state, or of a latent model first the image that a state is decoded to."""
    import torch

    from sdediff.cli.latents import decoded

    if model.autoencoder is None:
        return [size]
    return [tuple(decoded(model, torch.zeros(1, *size)).shape[1:]), size]


def _latents(model: ScoreModel, images: Tensor, size: _Size) -> Tensor:
    """States (B, *size) of images; of states themselves what they are."""
    from sdediff.cli.latents import encoded

    return images if model.autoencoder is None or tuple(images.shape[1:]) == size else encoded(model, images)


def _rows(images: Tensor, n: int) -> Tensor:
    """n rows, the given ones in turn."""
    return images[[i % len(images) for i in range(n)]]


def _values(path: Path | None, flag: str, sizes: list[_Size], bounds: tuple[float, float]) -> Tensor:
    """The rows of a file (N, *size) of one of `sizes`, float32; pictures in the range `bounds`."""
    import numpy as np
    import torch

    from sdediff.datasets import read
    from sdediff.datasets.errors import needed

    if path is None:
        raise BadInput(f"{flag}: give a file")
    with naming(flag):
        if path.suffix.lower() in _PICTURES:
            pillow: Any = needed("PIL.Image", "pillow")
            with pillow.open(path) as picture:
                values = np.asarray(picture.convert("L" if sizes[0][0] == 1 else "RGB"), dtype=np.float32)
            values = values[None, None] if values.ndim == 2 else values.transpose(2, 0, 1)[None]
            rows = bounds[0] + torch.from_numpy(values) / 255 * (bounds[1] - bounds[0])
        else:
            data = read(path, allow_bad=False)
            rows = (data.tensor(range=bounds) if data.range is not None else data.tensor()).float()
    if tuple(rows.shape) in sizes and tuple(rows.shape[1:]) not in sizes:
        rows = rows[None]
    if tuple(rows.shape[1:]) not in sizes:
        needed_sizes = " or ".join(map(str, sizes))
        raise BadInput(f"{flag}: {path} holds {tuple(rows.shape[1:])}, needed is {needed_sizes}")
    return rows
