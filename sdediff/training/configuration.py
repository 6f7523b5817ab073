"""A training run as a TOML file: data, process, network, model, objective and settings, each field checked."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomllib
import torch

from sdediff._utils.errors import Error
from sdediff._utils.files import expanded
from sdediff._utils.suggestions import nearest
from sdediff.datasets import DataSet
from sdediff.hub import ASSETS
from sdediff.model.score_model import ScoreModel
from sdediff.training.objective import TrainingObjective
from sdediff.training.settings import TrainingError, TrainingSettings
from sdediff.training.systems import made_model, made_objective

SECTIONS = ("data", "process", "network", "model", "objective", "training")
_LARGEST = 1 << 20  # bytes
CONFIGS = ASSETS / "configs"


@dataclass(frozen=True)
class DataSettings:
    """name: a data set in the package, or None where the user gives one; split; range: of the network's input.

    labels: whether labels condition the network. dequantise: whether integer levels are spread over their bins, anew in
    each epoch, or stand in the middle of them. levels, file_range: of a file's values, as in datasets.read.
    """

    name: str | None = None
    split: str = "train"
    range: tuple[float, float] = (-1.0, 1.0)
    labels: bool = False
    dequantise: bool = True
    levels: int | None = None
    file_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Configuration:
    """One system: what it is trained on, what is trained and how. Read by `read_config`, run by `sd.train`."""

    name: str
    about: str
    data: DataSettings
    sections: dict[str, dict[str, Any]]
    training: TrainingSettings

    def model(self, data: DataSet) -> ScoreModel:
        """The untrained model for the data, its card and measured fields included."""
        # Continuous data without a declared range are trained on as they are stored.
        bounds = None if data.range is None else list(self.data.range)
        card = {"about": self.about, "data": {
            "name": data.name, "levels": data.levels, "range": bounds, "shape": list(data.shape),
            "dequantised": data.levels is not None and self.data.dequantise,
        }}  # fmt: skip
        return named("", lambda: made_model(self.sections, data, self.data.range, card, self.training.seed))

    def objective(self, data: DataSet) -> TrainingObjective:
        """The objective for the data."""
        return named("objective: ", lambda: made_objective(self.sections["objective"], data, self.data.range))

    def rows(self, data: DataSet) -> Any:
        """The data as `sd.train` takes them."""
        if self.data.dequantise or data.levels is None:
            return data
        x = data.tensor(self.data.range)
        wanted = self.data.labels and data.labels is not None
        return (x, torch.from_numpy(np.array(data.labels)).flatten()) if wanted else x

    def plain(self) -> dict[str, Any]:
        """The configuration as plain values, for checkpoints."""
        sections = {name: dict(table) for name, table in self.sections.items()}
        return {
            "name": self.name, "about": self.about, **sections,
            "data": dataclasses.asdict(self.data), "training": dataclasses.asdict(self.training),
        }  # fmt: skip


def configs() -> list[str]:
    """The names of the configurations in the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def read_config(given: str | Path, changes: dict[str, Any] | None = None) -> Configuration:
    """The configuration in a TOML file, or of that name in the package (`configs()`).

    changes: values by "section.field" that come before the file's. TrainingError names the file and the field.
    """
    path = CONFIGS / f"{given}.toml" if str(given) in configs() else expanded(given, "the configuration")
    try:
        if path.stat().st_size > _LARGEST:
            raise TrainingError(f"{path}: larger than 1 MiB: give a configuration in TOML")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, Error):
            raise
        raise TrainingError(f"{path}: is no TOML ({error})") from error
    except OSError as error:
        reason = nearest(str(given), configs(), "configuration") if not path.exists() else error.strerror
        raise TrainingError(f"{path}: cannot be read: {reason}") from error
    for key, value in (changes or {}).items():
        name, dot, field = key.partition(".")
        if not dot or name not in SECTIONS:
            raise TrainingError(f"{key}: {nearest(name, SECTIONS, 'section')}, as in training.rate")
        table.setdefault(name, {})[field] = value
    return _checked(table, str(path))


def _checked(table: dict[str, Any], where: str) -> Configuration:
    for key, value in table.items():
        if key not in (*SECTIONS, "name", "about"):
            raise TrainingError(f"{where}: {nearest(key, (*SECTIONS, 'name', 'about'), 'key')}")
        if not isinstance(value, dict if key in SECTIONS else str):
            kind = "a table, [" + key + "]" if key in SECTIONS else "text"
            raise TrainingError(f"{where}: {key} = {value!r}: write {kind}")
    for key in ("process", "network", "objective"):
        if key not in table:
            raise TrainingError(f"{where}: [{key}] is missing: a configuration names its {key}")
    sections = {name: table.get(name, {}) for name in ("process", "network", "model", "objective")}
    return Configuration(
        table.get("name", Path(where).stem), table.get("about", ""),
        fields_of(DataSettings, table.get("data", {}), f"{where}: data"), sections,
        fields_of(TrainingSettings, table.get("training", {}), f"{where}: training"),
    )  # fmt: skip


def fields_of(kind: Callable[..., Any], table: dict[str, Any], where: str) -> Any:
    """An object of a dataclass from a table. TrainingError: unknown fields and wrong types, with the field's name."""
    takes = inspect.signature(kind).parameters
    for key, value in table.items():
        if key not in takes:
            raise TrainingError(f"{where}.{key}: {nearest(key, takes, 'field')}")
        default, annotation = takes[key].default, str(takes[key].annotation)
        pair = annotation.startswith("tuple")
        numeric = isinstance(default, int | float) and not isinstance(default, bool)
        wrong = (
            (isinstance(default, bool) and not isinstance(value, bool))
            or (isinstance(default, str) and not isinstance(value, str))
            or (numeric and (isinstance(value, bool) or not isinstance(value, int | float)))
            or (pair and not (isinstance(value, list) and len(value) == 2))
        )
        if wrong:
            raise TrainingError(f"{where}.{key} = {value!r}: give {annotation}, such as {default!r}")
    table = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return named(f"{where}: ", lambda: kind(**table))


def named(where: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, its errors beginning with where they come from."""
    try:
        return make()
    except TrainingError as error:
        raise TrainingError(f"{where}{error}") from error
    except (Error, TypeError, ValueError) as error:
        raise TrainingError(f"{where}{error}") from error
