"""DATA: the argument and its options, and the data set that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdediff._utils.files import present
from sdediff.cli.options import BadInput, naming

if TYPE_CHECKING:
    from sdediff.datasets import DataSet

Split = Annotated[str, typer.Option(help="test or train, of data inside the package.")]
Levels = Annotated[int | None, typer.Option(min=2, help="Number of integer levels of the data, such as 256.")]
Range = Annotated[str | None, typer.Option("--range", help="low,high: values of the lowest and top level.")]
Key = Annotated[str | None, typer.Option(help="The array of an .npz, or columns a,b of a Parquet file.")]


def data_set(
    name: str, split: str, levels: int | None, bounds: tuple[float, float] | None, key: str | None, limit: int | None
) -> DataSet:
    """The data set of a path, or of a name inside the package."""
    import sdediff as sd
    from sdediff.datasets import read

    if present(name) or "/" in name or Path(name).suffix:
        with naming("DATA"):
            return read(name, levels, bounds, key, limit, allow_bad=True)
    if levels is not None or bounds is not None or key is not None:
        raise BadInput(f"--levels, --range, --key: {name!r} is data of the package, which has its own: leave them out")
    with naming("--split" if split not in ("train", "test") else "DATA"):
        return sd.data(name, split)
