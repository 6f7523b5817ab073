"""DATA: the argument and its options, and the data set that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff._utils.files import present
from sdediff.cli.options import BadInput, naming, pair

if TYPE_CHECKING:
    from sdediff.datasets import DataSet

DATA_HELP = "digits, digits:train, or a file or folder of data."
Split = Annotated[str, typer.Option(help="test or train, of data inside the package.")]
Levels = Annotated[int | None, typer.Option(min=2, help="Number of integer levels of the data, such as 256.")]
Range = Annotated[str | None, typer.Option("--range", help="low,high: values of the lowest and top level.")]
Key = Annotated[str | None, typer.Option(help="The array of an .npz, or columns a,b of a Parquet file.")]


@dataclass(frozen=True)
class DataOptions:
    """The options that say how DATA is read."""

    split: Split = "test"
    levels: Levels = None
    range_: Range = None
    key: Key = None

    def read(self, name: str, limit: int | None = None) -> DataSet:
        """The data set of a path, or of a name inside the package."""
        return data_set(name, self.split, self.levels, pair(self.range_, "--range"), self.key, limit)

    def by_name(self, name: str) -> tuple[str, dict[str, Any]]:
        """The data and the keywords with which other processes read them: a file, or a name with its split."""
        about = {"levels": self.levels, "range": pair(self.range_, "--range"), "key": self.key}
        return name if _is_path(name) or ":" in name else f"{name}:{self.split}", about


def data_set(
    name: str,
    split: str,
    levels: int | None,
    bounds: tuple[float, float] | None,
    key: str | None,
    limit: int | None,
    flag: str = "DATA",
) -> DataSet:
    """The data set of a path, or of a name inside the package. flag: what an error names."""
    import sdediff as sd
    from sdediff.datasets import read

    if _is_path(name):
        with naming(flag):
            return read(name, levels, bounds, key, limit, allow_bad=True)
    if levels is not None or bounds is not None or key is not None:
        raise BadInput(f"--levels, --range, --key: {name!r} is data of the package, which has its own: leave them out")
    with naming("--split" if split not in ("train", "test") else flag):
        return sd.data(name, split)


def _is_path(name: str) -> bool:
    return present(name) or "/" in name or bool(Path(name).suffix)
