"""`Summary`, the result of a job: means with their errors; and paired differences of two jobs."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdediff._utils.files import whole
from sdediff._utils.machine import machine, versions
from sdediff.jobs.errors import JobError
from sdediff.jobs.manifest import Manifest, stored_manifest
from sdediff.jobs.rows import Rows, survey
from sdediff.jobs.tables import read_columns, row_groups
from sdediff.likelihood.result import difference

NAME, MERGED = "summary.json", "likelihood.parquet"


@dataclass(frozen=True, repr=False)
class Summary:
    """The mean likelihood of a data set with its error budget; None where a value is unknown or was refused.

    log_prob in nats and bits_per_dim are means over the samples whose status is ok; *_std_error: standard errors over
    the samples. probe_error: standard error of the mean log_prob by the trace estimate; solver_error: mean size of
    the samples' estimates; dequantisation_error: standard error of the mean by the K draws, tightening: their gain
    over one draw, in nats. statuses: the number of samples with each status. refused: why there are no means.
    bad_rows hold NaN or infinity; on failed_rows the network or its input raised an error.
    difference: from the literature's protocol, in words, with the settings that undo it. of: whose density,
    "samples", "latents" or "images".
    """

    model: str | None
    data: str
    samples: int
    left_out: int
    statuses: dict[str, int]
    dims: int | None
    levels: int | None
    log_prob: float | None
    log_prob_std_error: float | None
    bits_per_dim: float | None
    bits_per_dim_std_error: float | None
    probe_error: float | None
    solver_error: float | None
    draws: int
    dequantisation_error: float | None
    tightening: float | None
    t0: float | None
    density: str | None
    prior: str | None
    method: str | None
    scale: str | None
    calls: float | None
    micro_batch: int
    seconds: float
    refused: str | None = None
    bad_rows: tuple[int, ...] = ()
    failed_rows: tuple[int, ...] = ()
    difference: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    of: str = "samples"

    def __repr__(self) -> str:
        if self.log_prob is None:
            return f"Summary({self.data}: {self.samples} samples, no mean: {self.refused or 'no sample is ok'})"
        parts = [f"log p {_figure(self.log_prob, self.log_prob_std_error)} nats"]
        if self.bits_per_dim is not None:
            parts.insert(0, f"{_figure(self.bits_per_dim, self.bits_per_dim_std_error)} bits/dim")
        left_out = f", {self.left_out} left out" if self.left_out else ""
        return (
            f"Summary({self.data}: {self.samples} samples{left_out}, mean {', '.join(parts)}, "
            f"{self.density}, method={self.method!r}){self.difference and ': ' + self.difference}"
        )

    def _repr_html_(self) -> str:
        """A table of the means and their errors, for notebooks."""
        rows = [(name, getattr(self, name)) for name in _MEANS]
        cells = "".join(f"<tr><td>{name}</td><td>{value:.5g}</td></tr>" for name, value in rows if value is not None)
        return f"<p>{html.escape(repr(self))}</p><table>{cells}</table>"

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def save(self, folder: Path) -> Path:
        """Write summary.json into a folder, and return its path."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        with whole(folder / NAME) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")
        return folder / NAME


def read_results(out: Path, every: int = 1) -> dict[str, Any]:
    """The columns of a finished job: float arrays, NaN where a value is missing, and the status as a list.

    every: 2 for every second row, and so on, where there are too many for memory.
    """
    return read_columns(out / MERGED, every)


def summarise(
    out: Path, manifest: Manifest, model: str | None, device: Any, skip_bad: bool, skip_failed: bool
) -> Summary:
    """The summary of the files of a finished job, read a row group at a time."""
    parts = manifest.sections
    result, settings, data = manifest.result, parts["settings"], parts["data"]
    rows = survey(out / MERGED)
    refused = _refusal(data["name"], rows, skip_bad, skip_failed)
    means = {} if refused else _means(out / MERGED, rows)
    good, size = rows.statuses.get("ok", 0), sum(rows.statuses.values())
    return Summary(
        model=model, data=data["name"], samples=size, left_out=size - good,
        statuses=dict(sorted(rows.statuses.items())),
        dims=result.get("dims"), levels=data["levels"], draws=settings["draws"],
        **{key: means.get(key) for key in _MEANS},
        t0=result.get("t0"), density=_density(result, data["levels"]),
        prior=result.get("prior"), method=result.get("method"), scale=result.get("scale"),
        difference=difference(result["method"], result["end"], result["prior"]) if "end" in result else "",
        calls=rows.mean("calls"), micro_batch=manifest.notes.get("micro_batch", settings["micro_batch"]),
        seconds=round(result.get("seconds", 0.0), 2), refused=refused, bad_rows=tuple(rows.bad),
        failed_rows=tuple(rows.failed), settings=settings, notes=manifest.notes, versions=versions(),
        machine=machine(device), of=result.get("of", "samples"),
    )  # fmt: skip


def _refusal(name: str, rows: Rows, skip_bad: bool, skip_failed: bool) -> str | None:
    """Why there are no means, with the option that gives them."""
    size = sum(rows.statuses.values())
    if rows.bad and not skip_bad:
        return f"{name}: row {rows.bad[0]} holds NaN or Inf ({len(rows.bad)} such rows of {size})"
    if rows.failed and not skip_failed:
        return f"{name}: row {rows.failed[0]} {rows.reason} ({len(rows.failed)} such rows of {size})"
    return None


_DENSITIES = {
    "t0": "p at t0",
    "heat": "p at 0",
    "noised": "p of the {data}, through x at t0",
    "data": "p of the {data}",
    "image": "p of the {data}, by encoder and decoder",
}


def _density(result: dict[str, Any], levels: int | None) -> str | None:
    """The density that was scored, in words."""
    if "end" not in result:
        return None
    bound = "vlb" in result["method"] or result["end"] == "noised"
    data = "images" if result["end"] == "image" else "data"
    data = data if result.get("mass") or levels is None else f"dequantised {data}"
    of = ", of latents" if result.get("of") == "latents" else ""
    return ("a bound on " if bound else "") + _DENSITIES[result["end"]].format(data=data) + of


_MEANS = (
    "log_prob", "log_prob_std_error", "bits_per_dim", "bits_per_dim_std_error", "probe_error", "solver_error",
    "dequantisation_error", "tightening",
)  # fmt: skip


def _means(path: Path, rows: Rows) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    size = rows.statuses.get("ok", 0)
    for key in ("log_prob", "bits_per_dim"):
        out[key], out[f"{key}_std_error"] = rows.mean(key), rows.std_error(path, key)
    for key, column in (("probe_error", "std_error"), ("dequantisation_error", "dequantisation_error")):
        # The errors of samples are independent: that of the mean is their root sum of squares over their number.
        total = rows.squares.get(column)
        out[key] = _finite(math.sqrt(total) / size) if size and total is not None else None
    out["solver_error"], out["tightening"] = rows.mean("solver_error"), rows.mean("tightening")
    return out


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _figure(value: float, error: float | None) -> str:
    return f"{value:.4f}" + (f" +- {error:.4f}" if error is not None else "")


def paired(first: str | Path, second: str | Path) -> dict[str, Any]:
    """Differences of two finished jobs, second minus first, over the samples that both scored.

    Jobs of the same data, seed and draws use the same dequantisation and probes, so that their noise cancels in the
    difference. Returns log_prob and bits_per_dim, each with its standard error, and samples. JobError where data,
    seed or draws differ, or a job is not finished.
    """
    one, two = Path(first), Path(second)
    manifests = []
    for folder in (one, two):
        stored = stored_manifest(folder)
        if stored is None or not stored["result"] or not (folder / MERGED).exists():
            raise JobError(f"{folder} holds no finished job: finish it first")
        manifests.append(stored)
    for section, key in (("data", "sha256"), ("data", "levels"), ("settings", "seed"), ("settings", "draws")):
        a, b = (manifest[section].get(key) for manifest in manifests)
        if a != b:
            raise JobError(f"{one} and {two} differ in {section}.{key} ({a}, {b}): differences need it in common")
    out: dict[str, Any] = {"samples": 0}
    for key in ("log_prob", "bits_per_dim"):
        out[key], out[f"{key}_std_error"], out["samples"] = _difference(one / MERGED, two / MERGED, key)
    return out


def _difference(one: Path, two: Path, key: str) -> tuple[float | None, float | None, int]:
    """The mean difference of a column over rows that are ok in both, its standard error, and their number.

    Two passes, a row group at a time; None where a value is missing.
    """

    def gaps() -> Iterator[np.ndarray]:
        names = ["status", key]
        for left, right in zip(row_groups(one, names), row_groups(two, names), strict=True):
            both = np.array([a == b == "ok" for a, b in zip(left["status"], right["status"], strict=True)], bool)
            yield (right[key] - left[key])[both]

    parts = [(len(gap), math.fsum(gap) if np.isfinite(gap).all() else math.nan) for gap in gaps()]
    count = sum(size for size, _ in parts)
    if not count or not math.isfinite(total := math.fsum(part for _, part in parts)):
        return None, None, count
    mean = total / count
    if count < 2:
        return mean, None, count
    squares = math.fsum(math.fsum((gap - mean) ** 2) for gap in gaps())
    return mean, math.sqrt(squares / (count - 1) / count), count
