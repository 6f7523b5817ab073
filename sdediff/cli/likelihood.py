"""`likelihood`: a data set scored sample by sample."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.options import BadInput, Device, Dtype, Json, Out, Seed, naming, pair, placed, writable
from sdediff.cli.output import emit, listed, plain

if TYPE_CHECKING:
    from sdediff.datasets import DataSet
    from sdediff.likelihood import Likelihood
    from sdediff.model import ScoreModel

Levels = Annotated[int | None, typer.Option(min=2, help="Integer levels of the stored values, such as 256.")]


def likelihood(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of `sdediff models`, a folder, or a hub id.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="digits, or a file or folder of data.")],
    split: Annotated[str, typer.Option(help="test or train, of data inside the package.")] = "test",
    levels: Levels = None,
    range_: Annotated[str | None, typer.Option("--range", help="low,high: stored values of the end levels.")] = None,
    key: Annotated[str | None, typer.Option(help="The array of an .npz, or columns a,b of a Parquet file.")] = None,
    trace: Annotated[str, typer.Option(help="exact, rademacher or gaussian.")] = "rademacher",
    probes: Annotated[int, typer.Option(min=1, help="Probes a sample; two or more give an error.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="The first rows alone.")] = None,
    method: Annotated[str, typer.Option(help="dopri5, RK45, DOP853, ...")] = "dopri5",
    rtol: Annotated[float, typer.Option(help="Relative tolerance.")] = 1e-5,
    atol: Annotated[float, typer.Option(help="Absolute tolerance.")] = 1e-5,
    t0: Annotated[float | None, typer.Option(help="Where the flow starts; default: the process's own.")] = None,
    micro_batch: Annotated[int, typer.Option(min=1, help="Samples integrated together.")] = 64,
    out: Out = Path("likelihood-results"),
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Score a data set in nats and bits/dim: likelihood.parquet, a row a sample, and summary.json."""
    import sdediff as sd

    place, kind = placed(device, dtype)
    _known(trace, method, rtol, atol)
    with naming("MODEL"):
        loaded = sd.load(model, place, kind)
    found = _data(data, split, levels, pair(range_, "--range"), key, limit)
    x = _states(loaded, found, seed, limit)
    folder, began = writable(out), time.perf_counter()
    options = {"trace": trace, "probes": probes, "rtol": rtol, "atol": atol, "t0": t0, "micro_batch": micro_batch}
    with naming("--t0" if t0 is not None else "DATA"):
        result = sd.log_likelihood(loaded, x, integrator=method, seed=seed, **options)
    asked = {"split": split, "limit": limit, "seed": seed, "method": method, "dtype": dtype, **options}
    columns = _columns(result, found, _range(loaded))
    summary = {
        "model": model, "data": found.name, **_summary(result, columns), "levels": found.levels,
        "seconds": round(time.perf_counter() - began, 2), "settings": asked, **_where(place),
    }  # fmt: skip
    with naming("--out"):
        files = _written(folder, columns, summary)
    if as_json:
        emit({**summary, "files": files})
    else:
        _printed(summary, files)


def _known(trace: str, method: str, rtol: float, atol: float) -> None:
    from sdediff.integrate import SCIPY, TORCHDIFFEQ
    from sdediff.likelihood import TRACES
    from sdediff.names import nearest

    for flag, value, names in (("--trace", trace, TRACES), ("--method", method, TORCHDIFFEQ + SCIPY)):
        if value not in names:
            raise BadInput(f"{flag}: {nearest(value, names, flag[2:])}")
    for flag, tolerance in (("--rtol", rtol), ("--atol", atol)):
        if not 0 < tolerance < math.inf:
            raise BadInput(f"{flag}: {tolerance} is not a positive number: write one such as 1e-5")


def _data(
    name: str, split: str, levels: int | None, bounds: tuple[float, float] | None, key: str | None, limit: int | None
) -> DataSet:
    import sdediff as sd
    from sdediff.datasets import read

    if Path(name).expanduser().exists() or "/" in name or Path(name).suffix:
        with naming("DATA"):
            return read(name, levels, bounds, key, limit)
    if levels is not None or bounds is not None or key is not None:
        raise BadInput(f"--levels, --range, --key: {name!r} of the package has its own: leave them out")
    with naming("--split" if split not in ("train", "test") else "DATA"):
        return sd.data(name, split)


def _range(model: ScoreModel) -> tuple[float, float]:
    low, high = (model.card.get("data") or {}).get("range", (-1.0, 1.0))
    return low, high


def _states(model: ScoreModel, data: DataSet, seed: int, limit: int | None) -> Any:
    """The states to score: integer levels dequantised to the model's range, continuous values as declared."""
    known = (model.card.get("data") or {}).get("shape")
    if known is not None and tuple(known) != data.shape:
        raise BadInput(f"DATA: {data.name} has samples of shape {data.shape}, the model takes {tuple(known)}")
    rows = range(min(limit or len(data), len(data)))
    if data.levels is None:
        return data.tensor(range=_range(model), index=rows)
    return data.dequantised(seed=seed, index=rows, range=_range(model))


def _columns(result: Likelihood, data: DataSet, bounds: tuple[float, float]) -> dict[str, list[Any]]:
    from sdediff.likelihood import bits_per_dim

    size = len(result)
    bits: list[float | None] = [None] * size
    if data.levels is not None:
        bits = bits_per_dim(result, levels=data.levels, range=bounds).tolist()
    columns = {
        "index": list(range(size)),
        "log_prob": result.log_prob.tolist(),
        "std_error": result.std_error.tolist(),
        "bits_per_dim": bits,
        "status": list(result.status),
        "calls": result.calls.tolist(),
        "latent_norm": result.latent.double().flatten(1).norm(dim=1).tolist(),
    }
    return plain(columns)


def _summary(result: Likelihood, columns: dict[str, list[Any]]) -> dict[str, Any]:
    """Means over the samples that came out well, each with the standard error of drawing so many."""
    good = [i for i, word in enumerate(columns["status"]) if word == "ok"]
    out: dict[str, Any] = {"samples": len(result), "left_out": len(result) - len(good), "dims": result.dims}
    for key in ("log_prob", "bits_per_dim"):
        out[key], out[f"{key}_std_error"] = _mean([columns[key][i] for i in good])
    out["probe_error"] = _mean([columns["std_error"][i] for i in good])[0]
    out["calls"] = _mean(columns["calls"])[0]
    return {**out, "t0": result.t0, "density": "p at t0" if result.end == "t0" else "p at 0"}


def _mean(values: list[float | None]) -> tuple[float | None, float | None]:
    known = [v for v in values if v is not None]
    if not known:
        return None, None
    mean = math.fsum(known) / len(known)
    if len(known) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in known) / (len(known) - 1) / len(known))


def _where(place: Any) -> dict[str, Any]:
    from sdediff.benchmark import machine, versions

    return {"versions": versions(), "machine": machine(place)}


def _written(folder: Path, columns: dict[str, list[Any]], summary: dict[str, Any]) -> dict[str, str]:
    import json

    import pyarrow as pa
    from pyarrow import parquet

    from sdediff.benchmark import whole

    kinds = {"index": pa.int64(), "status": pa.string(), "calls": pa.int64()}
    table = pa.table({key: pa.array(values, kinds.get(key, pa.float64())) for key, values in columns.items()})
    files = {"parquet": folder / "likelihood.parquet", "summary": folder / "summary.json"}
    with whole(files["parquet"]) as unfinished:
        parquet.write_table(table, unfinished)
    with whole(files["summary"]) as unfinished:
        unfinished.write_text(json.dumps(plain(summary), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return {name: str(path) for name, path in files.items()}


def _printed(summary: dict[str, Any], files: dict[str, str]) -> None:
    rows = [
        ("samples", f"{summary['samples']} of {summary['data']}, {summary['left_out']} left out"),
        ("log p (nats)", _figure(summary["log_prob"], summary["log_prob_std_error"])),
        ("bits/dim", _figure(summary["bits_per_dim"], summary["bits_per_dim_std_error"])),
        ("probe error (nats)", summary["probe_error"] if summary["probe_error"] is not None else "unknown"),
        ("density", f"{summary['density']}, t0 = {summary['t0']:g}"),
        ("calls a sample", summary["calls"]),
        ("seconds", summary["seconds"]),
    ]
    listed(("", summary["model"]), rows)
    typer.echo("\n".join(files.values()))


def _figure(value: float | None, error: float | None) -> str:
    if value is None:
        return "none: continuous data"
    return f"{value:.4f}" + (f" +- {error:.4f}" if error is not None else "")
