"""`Summary`, the result of a job: means with their errors; and paired differences of two jobs."""

from __future__ import annotations

import html
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdediff._utils.files import whole
from sdediff._utils.machine import machine, versions
from sdediff.jobs.errors import JobError
from sdediff.jobs.manifest import Manifest, stored_manifest
from sdediff.jobs.rows import Rows, survey
from sdediff.jobs.tables import read_columns
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
    difference: from the literature's protocol, in words, with the settings that undo it.
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


def read_results(out: Path) -> dict[str, Any]:
    """The columns of a finished job: float arrays, NaN where a value is missing, and the status as a list."""
    return read_columns(out / MERGED)


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
        machine=machine(device),
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
}


def _density(result: dict[str, Any], levels: int | None) -> str | None:
    """The density that was scored, in words."""
    if "end" not in result:
        return None
    bound = "vlb" in result["method"] or result["end"] == "noised"
    data = "data" if result.get("mass") or levels is None else "dequantised data"
    return ("a bound on " if bound else "") + _DENSITIES[result["end"]].format(data=data)


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


def _mean(values: np.ndarray) -> tuple[float | None, float | None]:
    """The mean and its standard error; None where a value is missing."""
    if not len(values) or not np.isfinite(values).all():
        return None, None
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((values - mean) ** 2) / (len(values) - 1) / len(values))


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
        if stored is None or not stored["result"] or not (folder / MERGED).is_file():
            raise JobError(f"{folder} holds no finished job: finish it first")
        manifests.append(stored)
    for section, key in (("data", "sha256"), ("data", "levels"), ("settings", "seed"), ("settings", "draws")):
        a, b = (manifest[section].get(key) for manifest in manifests)
        if a != b:
            raise JobError(f"{one} and {two} differ in {section}.{key} ({a}, {b}): differences need it in common")
    left, right = read_results(one), read_results(two)
    both = np.array([a == b == "ok" for a, b in zip(left["status"], right["status"], strict=True)])
    out: dict[str, Any] = {"samples": int(both.sum())}
    for key in ("log_prob", "bits_per_dim"):
        out[key], out[f"{key}_std_error"] = _mean((right[key] - left[key])[both])
    return out
