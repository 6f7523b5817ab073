"""Options of what `sample` steers towards: guidance by a condition, and images to start from or to fill in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.model_options import conditioned, prompted
from sdediff.cli.options import BadInput, naming, pair

if TYPE_CHECKING:
    from torch import Tensor

    from sdediff.model.score_model import ScoreModel
    from sdediff.sampling.run import Plan

_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class GuidanceOptions:
    """The options that change what is predicted."""

    guidance: Annotated[
        float | None,
        typer.Option(metavar="SCALE", help="Of --cond without a classifier, 1 is the plain model; or of it."),
    ] = None
    classifier: Annotated[
        str | None, typer.Option(metavar="MODEL=CLASS", help="Guidance by a classifier of noised data towards a class.")
    ] = None
    negative: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A condition to steer away from; a text beside --prompt; repeatable."),
    ] = None
    clip: Annotated[str | None, typer.Option(metavar="LOW,HIGH", help="Clip the predicted x0, as in -1,1.")] = None
    threshold: Annotated[float | None, typer.Option(help="Dynamic thresholding of x0, as in 0.995.")] = None

    def free(self, model: ScoreModel, cond: dict[str, Any] | None, prompt: str | None) -> ScoreModel:
        """The model with classifier-free guidance."""
        from sdediff import guidance

        if self.classifier is not None:
            return self._by_classifier(model)
        if self.guidance is None:
            if self.negative:
                raise BadInput("--negative: it has no effect without guidance: write --guidance 2")
            return model
        if not cond:
            raise BadInput("--guidance: it needs a condition to steer towards: write --cond label=3")
        negative: dict[str, Any] = {}
        for text in self.negative or ():
            named = text.partition("=")[1] and text.partition("=")[0].isidentifier()
            with naming("--negative"):
                found = conditioned(model, [text])[1] if named else prompted(model, text, flag="--negative")
            negative |= found or {}
        if not negative and prompt is not None:
            negative = prompted(model, "", flag="--guidance")
        for name in negative:
            if name not in cond:
                raise BadInput(f"--negative: {name!r} has no condition beside it: write --cond {name}=VALUE too")
        with naming("--guidance"):
            return guidance.classifier_free(model, self.guidance, negative=negative or None)

    def _by_classifier(self, model: ScoreModel) -> ScoreModel:
        """The model guided by the classifier of a name or folder towards a class."""
        import sdediff as sd

        if self.negative:
            raise BadInput("--negative: a classifier has no negative condition: leave one of them out")
        name, _, label = str(self.classifier).rpartition("=")
        if not name or not label.isdecimal():
            raise BadInput(f"--classifier: given {self.classifier}: write MODEL=CLASS, such as digits-classifier=3")
        with naming("--classifier"):
            return sd.guidance.classifier(
                model, sd.load(name), int(label), 1.0 if self.guidance is None else self.guidance
            )

    def limited(self, model: ScoreModel, limit: float) -> ScoreModel:
        """The model with x0 clipped, or thresholded at the larger end of the data's range, `limit`."""
        from sdediff import guidance

        if self.clip is not None and self.threshold is not None:
            raise BadInput("--threshold: x0 is thresholded or clipped, give one of --threshold and --clip")
        ends = pair(self.clip, "--clip")
        if ends is not None:
            with naming("--clip"):
                return guidance.clip(model, *ends)
        if self.threshold is None:
            return model
        with naming("--threshold"):
            return guidance.threshold(model, self.threshold, limit)


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
        self, model: ScoreModel, shape: tuple[int, ...], planned: Plan, bounds: tuple[float, float], **run: Any
    ) -> tuple[Tensor, int]:
        """Samples (B, ...) that begin with the image, and the network evaluations."""
        from sdediff import inverse
        from sdediff.sampling.watch import CallCounter

        n, *rest = shape
        size = tuple(rest)
        images = _values(self.image, "--image", size, bounds)
        counter, cond = CallCounter(), run.pop("cond")
        model = model.map_net(counter.wrap).given(**cond or {})
        rows = images[[i % len(images) for i in range(n)]]
        options = {"solver": planned.solver, "grid": planned.times, **run}
        if self.mask is None:
            with naming("--strength"):
                strength = 0.6 if self.strength is None else self.strength
                return inverse.image_to_image(model, rows, strength, **options), counter.calls
        anew = _values(self.mask, "--mask", size, (0.0, 1.0))[0] != 0
        with naming("--mask"):
            by = self.method or "repaint"
            if by == "ddrm":
                options.pop("solver")
            return inverse.inpaint(model, rows, ~anew, by=by, **options), counter.calls


def _values(path: Path | None, flag: str, size: tuple[int, ...], bounds: tuple[float, float]) -> Tensor:
    """The rows of a file (N, *size), float32, pictures in the range `bounds`."""
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
                values = np.asarray(picture.convert("L" if size[0] == 1 else "RGB"), dtype=np.float32)
            values = values[None, None] if values.ndim == 2 else values.transpose(2, 0, 1)[None]
            rows = bounds[0] + torch.from_numpy(values) / 255 * (bounds[1] - bounds[0])
        else:
            data = read(path, allow_bad=False)
            rows = (data.tensor(range=bounds) if data.range is not None else data.tensor()).float()
    if rows.shape[1:] != size and tuple(rows.shape) == size:
        rows = rows[None]
    if tuple(rows.shape[1:]) != size:
        raise BadInput(f"{flag}: {path} holds {tuple(rows.shape[1:])}, the model's samples are {size}")
    return rows
