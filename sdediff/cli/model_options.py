"""MODEL and the options that go with it: whose code to trust, conditions, statistics of data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff._utils.references import import_from_here, is_reference
from sdediff.cli.options import BadInput, Device, Dtype, naming, placed, value_of

if TYPE_CHECKING:
    import torch

    from sdediff.datasets import DataSet
    from sdediff.model.score_model import ScoreModel

_FILE = re.compile(r"[/\\]|\.(npy|npz|parquet|gz|idx)(:\w+)?$")
MODEL_HELP = "A name of `sdediff models`, a folder, a hub id, or package.module:factory."
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
Trust = Annotated[
    list[str] | None,
    typer.Option(metavar="PACKAGE", help="Run code of this package that a model folder names; repeatable."),
]
Cond = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help="A condition: a number, a file with a row a sample, labels of DATA; repeatable."
    ),
]
Prompt = Annotated[str | None, typer.Option(help="A text as the condition, for a model with a text encoder.")]
Lora = Annotated[
    str | None,
    typer.Option(metavar="FILE[:SCALE]", help="A low-rank adapter of the network, what it adds multiplied by SCALE."),
]
StatisticsOf = Annotated[
    str | None,
    typer.Option(
        "--statistics", metavar="DATA", help="Measure mean and covariance on these data, where a model comes without."
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """The options of every command that evaluates a network: its conditions, whose code runs, where it runs."""

    cond: Cond = None
    prompt: Prompt = None
    lora: Lora = None
    trust: Trust = None
    device: Device = "cpu"
    dtype: Dtype = None

    @property
    def placed(self) -> tuple[torch.device, torch.dtype | None]:
        """The device and the dtype, refused where this machine lacks them."""
        return placed(self.device, self.dtype)

    @property
    def typed(self) -> list[tuple[str, str | None]]:
        """The options as they are typed again."""
        repeated: list[tuple[str, str | None]] = [("--trust", text) for text in self.trust or ()]
        repeated += [("--cond", text) for text in self.cond or ()]
        repeated += [("--prompt", self.prompt), ("--lora", self.lora)]
        return [("--dtype", self.dtype), ("--device", None if self.device == "cpu" else self.device), *repeated]

    def load(self, name: str, statistics: str | None = None, flag: str = "MODEL") -> ScoreModel:
        """The model that a name means, on the device."""
        model = load_model(name, *self.placed, self.trust, statistics, flag)
        return model if self.lora is None else _adapted(model, self.lora)

    def given(
        self, model: ScoreModel, rows: int | None = None, data: DataSet | None = None, limit: int | None = None
    ) -> tuple[ScoreModel, dict[str, Any] | None]:
        """The model told of its conditions, and the conditions, as `conditioned` gives them."""
        model, cond = conditioned(model, self.cond, rows, data, limit)
        return model, cond if self.prompt is None else {**(cond or {}), **prompted(model, self.prompt, rows)}


def prompted(model: ScoreModel, text: str, rows: int | None = None, flag: str = "--prompt") -> dict[str, Any]:
    """The condition that a text is for a model's network, with a row for each of `rows` samples."""
    from sdediff.model.conditions import a_row_each

    if model.text_encoder is None:
        notes = "".join(f" ({note})" for note in model.card.get("notes") or () if "text" in note)
        raise BadInput(f"{flag}: the model has no text encoder{notes}: write its condition as --cond name=value")
    with naming(flag):
        cond: dict[str, Any] = a_row_each(model.text_encoder(text), rows or 1)
    return cond


def _adapted(model: ScoreModel, text: str) -> ScoreModel:
    """The model with the adapter of a file, FILE or FILE:SCALE."""
    import sdediff as sd

    file, _, scale = text.rpartition(":")
    with naming("--lora"):
        factor = value_of(scale)
        if file and isinstance(factor, int | float) and not isinstance(factor, bool):
            return sd.adapters.load_lora(model, file, float(factor))
        return sd.adapters.load_lora(model, text)


def load_model(
    name: str,
    place: torch.device,
    kind: torch.dtype | None,
    trust: Sequence[str] | None = None,
    statistics_of: str | None = None,
    flag: str = "MODEL",
) -> ScoreModel:
    """The model that a name means, with the statistics of the data that --statistics names."""
    import sdediff as sd

    if is_reference(name):
        import_from_here()
    with naming(flag):
        try:
            model = sd.load(name, place, kind, trust or ())
        except RuntimeError as error:  # of a device or a type that a network cannot be moved to
            raise BadInput(f"{flag}: {name} cannot be loaded ({error})") from error
    return model if statistics_of is None else with_statistics(model, statistics_of)


def with_statistics(model: ScoreModel, name: str) -> ScoreModel:
    """The model with statistics of data in its own range: data of the package, or a file."""
    import sdediff as sd
    from sdediff.cli.data import data_set
    from sdediff.model.data_card import DataCard

    data = data_set(name, "train", None, None, None, None)
    with naming("--statistics"):
        bounds = DataCard.of(model.card).bounds
        if data.levels is not None:
            values: Any = data.dequantised(range=bounds)
        else:
            values = data.tensor(range=bounds) if data.range is not None else data.tensor()
        return replace(model, stats=sd.statistics(values))


def conditioned(
    model: ScoreModel,
    texts: Sequence[str] | None,
    rows: int | None = None,
    data: DataSet | None = None,
    limit: int | None = None,
) -> tuple[ScoreModel, dict[str, Any] | None]:
    """Conditions from texts such as scale=2, context=rows.npy, label=rows.parquet:class, or label=labels.

    A file, and a column of `data` or its labels, has a row a sample, which the model is told; rows: their number,
    refused where the file has another; limit: data are the first rows alone. None without texts.
    """
    found: dict[str, Any] = {}
    by_row = []
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise BadInput(f"--cond: {text!r} is not name=value: write such as label=3 or label=labels.npy")
        found[name] = value_of(value)
        if isinstance(found[name], str) and (data is not None or _FILE.search(value)):
            found[name] = _rows(value, rows, data, limit)
            by_row.append(name)
    named = tuple(dict.fromkeys((*model.per_sample, *by_row)))
    return replace(model, per_sample=named) if by_row else model, found or None


def _rows(text: str, rows: int | None, data: DataSet | None, limit: int | None) -> Any:
    """The rows of a file, of one of its arrays or columns (FILE:COLUMN), or of a column of the data."""
    from sdediff.datasets import column, read

    if text == "labels" and data is not None and data.labels is not None:
        return data.labels
    with naming("--cond"):
        if data is not None:
            return column(data, text, limit)
        values = read(text).x
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if rows is not None and len(values) != rows:
        raise BadInput(f"--cond: {text} has {len(values)} rows, needed is one for each of {rows} samples")
    return values
