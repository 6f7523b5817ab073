"""What a finished job says: means with every error that is known, and paired differences of two jobs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdediff._utils.files import whole
from sdediff.jobs.errors import JobError
from sdediff.jobs.manifest import NAME as MANIFEST
from sdediff.jobs.manifest import Manifest
from sdediff.jobs.scoring import BAD_ROW
from sdediff.jobs.shards import MERGED, merged

NAME = "summary.json"


@dataclass(frozen=True)
class Summary:
    """The error budget of a data set's likelihood; None is what is not known or was refused.

    log_prob in nats and bits_per_dim are means over the samples whose status is ok; *_std_error: of drawing so
    many samples. probe_error: standard error of the mean log_prob by the trace estimate; solver_error: mean size of
    the samples' estimates; dequantisation_error: standard error of the mean by the K draws, tightening: nats that
    they gained over one. statuses: how many samples have which. refused: why there are no means.
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
    settings: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)

    def save(self, folder: Path) -> Path:
        """Writes summary.json into a folder and returns its path."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        with whole(folder / NAME) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")
        return folder / NAME


def summarise(out: Path, manifest: Manifest, model: str | None, device: Any, skip_bad: bool) -> Summary:
    """The summary of a finished job's files."""
    from sdediff._utils.machine import machine, versions

    columns = merged(out)
    words: list[str] = columns["status"]
    good = np.array([word == "ok" for word in words])
    bad = [i for i, word in enumerate(words) if word == BAD_ROW]
    result, made = manifest.result, manifest.made_of
    refused = None
    if bad and not skip_bad:
        name = made["data"]["name"]
        refused = f"{name}: row {bad[0]} holds NaN or Inf ({len(bad)} such rows of {len(words)})"
    kept = {key: values[good] for key, values in columns.items() if key != "status"}
    means = {} if refused else _means(kept)
    return Summary(
        model=model, data=made["data"]["name"], samples=len(words), left_out=len(words) - int(good.sum()),
        statuses={word: words.count(word) for word in sorted(set(words))},
        dims=result.get("dims"), levels=made["data"]["levels"], draws=made["settings"]["draws"],
        **{key: means.get(key) for key in _MEANS},
        t0=result.get("t0"), density=_density(result, made["data"]["levels"]),
        prior=result.get("prior"), method=result.get("method"), scale=result.get("scale"),
        calls=_mean(kept["calls"])[0], micro_batch=manifest.notes.get("micro_batch", made["settings"]["micro_batch"]),
        seconds=round(result.get("seconds", 0.0), 2), refused=refused, bad_rows=tuple(bad), settings=made["settings"],
        notes=manifest.notes, versions=versions(), machine=machine(device),
    )  # fmt: skip


_DENSITIES = {
    "t0": "p at t0",
    "heat": "p at 0",
    "noised": "p of the {data}, through x at t0",
    "data": "p of the {data}",
}


def _density(result: dict[str, Any], levels: int | None) -> str | None:
    """Which density was scored, in words."""
    if "end" not in result:
        return None
    bound = "vlb" in result["method"] or result["end"] == "noised"
    data = "data" if result.get("mass") or levels is None else "dequantised data"
    return ("a bound on " if bound else "") + _DENSITIES[result["end"]].format(data=data)


_MEANS = (
    "log_prob", "log_prob_std_error", "bits_per_dim", "bits_per_dim_std_error", "probe_error", "solver_error",
    "dequantisation_error", "tightening",
)  # fmt: skip


def _means(kept: dict[str, Any]) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    for key in ("log_prob", "bits_per_dim"):
        out[key], out[f"{key}_std_error"] = _mean(kept[key])
    size = len(kept["log_prob"])
    for key, column in (("probe_error", "std_error"), ("dequantisation_error", "dequantisation_error")):
        # Errors of samples are independent, so that of the mean is their root sum of squares over their number.
        out[key] = _finite(math.sqrt(math.fsum(kept[column] ** 2)) / size) if size and column in kept else None
    out["solver_error"] = _mean(abs(kept["solver_error"]))[0]
    out["tightening"] = _mean(kept["tightening"])[0] if "tightening" in kept else None
    return out


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mean(values: np.ndarray) -> tuple[float | None, float | None]:
    """The mean and its standard error; None where a value is not known."""
    if not len(values) or not np.isfinite(values).all():
        return None, None
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((values - mean) ** 2) / (len(values) - 1) / len(values))


def paired(first: str | Path, second: str | Path) -> dict[str, Any]:
    """Differences of two finished jobs, second minus first, over the samples that both scored.

    Where seed, data and draws agree both used the same dequantisation and probes, so that their noise cancels in
    the difference. Returns log_prob and bits_per_dim, each with its standard error, and samples. JobError: jobs of
    other data or seeds.
    """
    one, two = Path(first), Path(second)
    made = []
    for folder in (one, two):
        try:
            made.append(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
            if not (folder / MERGED).is_file():
                raise FileNotFoundError(MERGED)
        except (OSError, ValueError) as error:
            raise JobError(f"{folder} holds no finished job ({error}): finish it first") from error
    for section, key in (("data", "sha256"), ("data", "levels"), ("settings", "seed"), ("settings", "draws")):
        a, b = (manifest[section].get(key) for manifest in made)
        if a != b:
            raise JobError(f"{one} and {two} differ in {section}.{key} ({a}, {b}): differences need it in common")
    left, right = merged(one), merged(two)
    both = np.array([a == b == "ok" for a, b in zip(left["status"], right["status"], strict=True)])
    out: dict[str, Any] = {"samples": int(both.sum())}
    for key in ("log_prob", "bits_per_dim"):
        out[key], out[f"{key}_std_error"] = _mean((right[key] - left[key])[both])
    return out
