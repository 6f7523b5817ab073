"""`Work`: long work as a list of units, and `Recipe`, the plain values from which any process makes it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sdediff.jobs.errors import JobError
from sdediff.jobs.manifest import differing

if TYPE_CHECKING:
    import pyarrow as pa

Say = Callable[[str], None]


class Batch(NamedTuple):
    """The columns of a micro-batch, a value a unit, and the facts that hold for every unit of the work.

    seconds: that it took, where it was computed before its shard.
    """

    columns: dict[str, list[Any]]
    facts: dict[str, Any]
    seconds: float = 0.0


class Taken(NamedTuple):
    """A copy of the input of some units, and the SHA-256 of each block of input that was copied for it."""

    content: Any
    digests: tuple[str, ...] = ()


class Work(ABC):
    """Units 0 ... units - 1 with a pure function from units to columns, of which "index" is the first.

    Every micro-batch of the same units gives the same bits for one thread count. `name` names the work and its result.
    """

    name: str
    units: int
    unit: str = "unit"

    @abstractmethod
    def describe(self) -> dict[str, dict[str, Any]]:
        """Sections of plain values that define the job: data, model, settings. Their change is refused."""

    @abstractmethod
    def schema(self) -> pa.Schema:
        """The columns of a shard, "index" (int64) first."""

    @abstractmethod
    def batch(self, content: Any, units: Sequence[int]) -> Batch:
        """Compute some units together. What it raises is taken for the failure of one of them, and searched for."""

    @abstractmethod
    def failed(self, unit: int, message: str) -> dict[str, Any]:
        """The row of a unit that cannot be computed; columns that it leaves out are null."""

    def take(self, units: range) -> Taken:
        """A copy of the input of the units with the hashes of its blocks; units without input need nothing."""
        return Taken(units)

    def digests(self, units: range, total: int) -> tuple[str, ...]:
        """The SHA-256 of the blocks of input that hold these units, of the first `total` units as a whole."""
        return ()

    def blocks(self, units: range) -> range:
        """The numbers of the blocks of input that hold these units."""
        return range(0)

    def identity(self, digests: Sequence[str]) -> str:
        """The hash of the whole input from those of all its blocks."""
        return ""

    def common(self, facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the manifest says of the result, from the facts of all shards; by default those of the first."""
        return next((given for given in facts if given), {})

    @property
    def result(self) -> str:
        """The name of the file that holds the result, or of the folder where it has more than 10^8 units."""
        return f"{self.name}.parquet"

    def write(self, tables: Iterator[pa.Table], path: Path) -> None:
        """Write the result from the tables of all shards in order; its bytes depend on the values alone."""
        from sdediff.jobs.tables import write_result

        write_result(tables, self.schema(), path, self.units)

    def read(self, path: Path, units: range) -> pa.Table:
        """The table of some units from the result."""
        from sdediff.jobs.tables import read_rows

        return read_rows(path, units)

    def unit_bytes(self) -> int:
        """About how many bytes the columns of a unit take."""
        return 64


@dataclass(frozen=True)
class Recipe:
    """How a process makes the work: a function as "module:name", its plain arguments, and torch's thread count.

    described: what the work says of itself where the job was started; a process that makes another one is refused.
    """

    make: str
    arguments: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    described: dict[str, Any] = field(default_factory=dict)

    def of(self, work: Work) -> Recipe:
        """The recipe of this very work."""
        return replace(self, described=_plain(work))

    def work(self, **changes: Any) -> Work:
        """The work, made in this process; `changes` replace arguments, such as the device."""
        module, _, name = self.make.partition(":")
        work = getattr(import_module(module), name)(**{**self.arguments, **changes})
        if not isinstance(work, Work):
            raise JobError(f"{self.make} returned a {type(work).__name__}: a recipe's function returns a Work")
        other = differing(self.described, _plain(work), "here", "there") if self.described else ""
        if other:
            raise JobError(
                f"another process cannot make this job again by its names: {other}: write a factory, "
                "package.module:function, that returns the model as it is, or compute in this process"
            )
        return work


def _plain(work: Work) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(json.dumps(work.describe()))
    return described
