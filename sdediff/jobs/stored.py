"""`stored_work`: a work as its manifest describes it, to merge shards that are finished; it computes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sdediff.jobs.blocks import block_numbers, block_rows, identity
from sdediff.jobs.errors import JobError
from sdediff.jobs.scoring import likelihood_schema
from sdediff.jobs.tables import described_schema
from sdediff.jobs.work import Batch, Work

if TYPE_CHECKING:
    import pyarrow as pa

_SECTIONS = ("data", "model", "settings", "versions")


class StoredWork(Work):
    """The units, sections and columns of a work whose shards are finished."""

    def __init__(self, stored: dict[str, Any]) -> None:
        self.name, self.units = stored["work"], stored["units"]
        self.sections = {key: stored[key] for key in _SECTIONS}

    def describe(self) -> dict[str, dict[str, Any]]:
        return self.sections

    def batch(self, content: Any, units: Sequence[int]) -> Batch:
        raise JobError("a stored work computes nothing: run the job's own command")

    def failed(self, unit: int, message: str) -> dict[str, Any]:
        return {}


class StoredLikelihood(StoredWork):
    """A likelihood job."""

    unit = "row"

    def schema(self) -> pa.Schema:
        return likelihood_schema(self.sections["settings"]["draws"])

    def _size(self) -> int:
        data = self.sections["data"]
        return block_rows(math.prod(data["shape"]) * np.dtype(data["dtype"]).itemsize)

    def blocks(self, units: range) -> range:
        return block_numbers(units, self._size())

    def identity(self, digests: Sequence[str]) -> str:
        data = self.sections["data"]
        return identity(digests, data["dtype"], (self.units, *data["shape"]), self._size())


class StoredSweep(StoredWork):
    """A sweep, and any work that states its columns and its result in its settings."""

    unit = "cell"

    @property
    def result(self) -> str:
        return str(self.sections["settings"]["result"])

    def schema(self) -> pa.Schema:
        return described_schema(self.sections)

    def common(self, facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {}


_WORKS: dict[str, Callable[[dict[str, Any]], StoredWork]] = {"likelihood": StoredLikelihood, "sweep": StoredSweep}


def stored_work(stored: dict[str, Any]) -> StoredWork:
    """The work of a manifest; JobError for works that are merged by their own command alone, and for broken ones."""
    make = _WORKS.get(stored["work"])
    if make is None:
        raise JobError(f"a job of {stored['work']} is merged by its own command: run that again")
    work = make(stored)
    try:
        work.schema(), work.blocks(range(1))
    except (KeyError, TypeError, ValueError) as error:
        raise JobError(f"the manifest lacks what its shards need ({type(error).__name__}: {error})") from error
    return work
