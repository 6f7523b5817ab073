"""Options of what `sample` steers towards: guidance by a condition or by a classifier, limits of x0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.model_options import conditioned, prompted
from sdediff.cli.options import BadInput, naming, pair

if TYPE_CHECKING:
    from sdediff.model.score_model import ScoreModel


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
