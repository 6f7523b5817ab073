"""`likelihood`: a data set scored sample by sample, as a job that can be stopped, resumed and shared."""

from __future__ import annotations

import math
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.options import BadInput, Device, Dtype, Json, Out, Seed, naming, pair, placed, writable
from sdediff.cli.output import emit, listed

if TYPE_CHECKING:
    from sdediff.datasets import DataSet
    from sdediff.jobs import Summary
    from sdediff.model.score_model import ScoreModel

Levels = Annotated[int | None, typer.Option(min=2, help="Integer levels of the stored values, such as 256.")]
Tolerance = Annotated[float | None, typer.Option(help="Of the solver; by default the method's own.")]


def likelihood(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of `sdediff models`, a folder, or a hub id.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="digits, or a file or folder of data.")],
    split: Annotated[str, typer.Option(help="test or train, of data inside the package.")] = "test",
    levels: Levels = None,
    range_: Annotated[str | None, typer.Option("--range", help="low,high: stored values of the end levels.")] = None,
    key: Annotated[str | None, typer.Option(help="The array of an .npz, or columns a,b of a Parquet file.")] = None,
    trace: Annotated[str | None, typer.Option(help="exact, rademacher, ...; default: the method's own.")] = None,
    probes: Annotated[int | None, typer.Option(min=1, help="Probes a sample; two or more give an error.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Dequantisations a sample, weighted: a tighter bound.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="The first rows alone.")] = None,
    method: Annotated[str | None, typer.Option(help="A method, or the integrator of the ODE: RK45, ...")] = None,
    rtol: Tolerance = None,
    atol: Tolerance = None,
    t0: Annotated[float | None, typer.Option(help="Where the flow starts; default: the process's own.")] = None,
    end: Annotated[str | None, typer.Option(help="heat, t0, noised; of a bound: data, t0.")] = None,
    prior: Annotated[str | None, typer.Option(help="auto, sigma, unit, std, diagonal, full.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of --method vlb, nodes of continuous_vlb.")] = None,
    micro_batch: Annotated[int, typer.Option(min=1, help="Samples computed together.")] = 64,
    shard: Annotated[int | None, typer.Option(min=1, help="Samples written together.")] = None,
    skip_bad: Annotated[bool, typer.Option(help="Give means in spite of rows with NaN or Inf.")] = False,
    join: Annotated[bool | None, typer.Option(help="Work beside other processes on the same job.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch.")] = None,
    compare: Annotated[str | None, typer.Option(metavar="OTHER", help="A model to take differences with.")] = None,
    out: Out = Path("likelihood-results"),
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Score a data set in nats and bits/dim: likelihood.parquet, summary.json, report.html. Goes on if begun."""
    import sdediff as sd

    place, kind = placed(_own(device), dtype)
    given = {"trace": trace, "probes": probes, "rtol": rtol, "atol": atol, "t0": t0, "end": end, "prior": prior}
    options = _options(method, {**given, "steps": steps})
    with naming("MODEL"):
        loaded = sd.load(model, place, kind)
    with naming("--compare"):
        other = None if compare is None else sd.load(compare, place, kind)
    found = _data(data, split, levels, pair(range_, "--range"), key, limit)
    job: dict[str, Any] = {
        "limit": limit, "seed": seed, "draws": draws, "micro_batch": micro_batch, "shard": shard, "join": join,
        "skip_bad": skip_bad, "num_threads": threads, **options,
    }  # fmt: skip
    folder = writable(out)
    summary = _run(loaded, found, folder, job)
    said: dict[str, Any] = {**summary.to_dict(), "model": model}
    if other is not None:
        said["compare"] = {"model": compare, **_compared(other, found, folder, job)}
    files = {"parquet": "likelihood.parquet", "summary": "summary.json", "report": "report.html"}
    said["files"] = {kind: str(folder / name) for kind, name in files.items()}
    if int(os.environ.get("RANK") or 0):
        return
    if summary.refused:
        raise BadInput(
            f"DATA: {summary.refused}: the others are in {said['files']['parquet']}; add --skip-bad for a mean"
        )
    emit(said) if as_json else _printed(said)


def _own(device: str) -> str:
    """Of several processes on one machine each takes its own accelerator."""
    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if device == "cuda" and rank else device


def _options(method: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The estimator's options that were given, their names and numbers checked."""
    from sdediff._utils.suggestions import nearest
    from sdediff.integrate import ODES
    from sdediff.likelihood import PRIORS, TRACES
    from sdediff.likelihood.settings import ENDS, METHODS

    given = {key: value for key, value in given.items() if value is not None}
    known = {"trace": TRACES, "prior": PRIORS, "end": sorted({end for ends in ENDS.values() for end in ends})}
    if method is not None:
        known["method"] = METHODS + ODES
        given["method"] = method
    for key, names in known.items():
        if key in given and given[key] not in names:
            raise BadInput(f"--{key}: {nearest(given[key], names, key)}")
    for key in ("rtol", "atol"):
        if key in given and not 0 < given[key] < math.inf:
            raise BadInput(f"--{key}: {given[key]} is not a positive number: write one such as 1e-5")
    if method is not None and method not in METHODS:
        given.update(method="ode", integrator=method)
    return given


def _run(model: ScoreModel, data: DataSet, folder: Path, job: dict[str, Any]) -> Summary:
    import sdediff as sd
    from sdediff.datasets import DataError
    from sdediff.jobs import JobError, Stopped

    try:
        return sd.likelihood_job(model, data, folder, **job)
    except JobError as error:
        raise BadInput(f"--out: {error}" if str(error).startswith(str(folder)) else str(error)) from error
    except Stopped as stop:
        again = shlex.join(["sdediff", *sys.argv[1:]])
        raise BadInput(f"interrupted: {stop}; go on with: {again}", stop.code) from stop
    except DataError as error:
        raise BadInput(f"DATA: {error}") from error
    except (ValueError, TypeError) as error:
        raise BadInput(f"{'--t0' if 't0' in job else 'DATA'}: {error}") from error


def _compared(other: ScoreModel, data: DataSet, folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Differences of the other model on the same data, dequantised and probed alike: it has a job of its own."""
    from sdediff.jobs import paired

    _run(other, data, folder / "compared", job)
    with naming("--compare"):
        return paired(folder, folder / "compared")


def _data(
    name: str, split: str, levels: int | None, bounds: tuple[float, float] | None, key: str | None, limit: int | None
) -> DataSet:
    import sdediff as sd
    from sdediff.datasets import read

    if Path(name).expanduser().exists() or "/" in name or Path(name).suffix:
        with naming("DATA"):
            return read(name, levels, bounds, key, limit, allow_bad=True)
    if levels is not None or bounds is not None or key is not None:
        raise BadInput(f"--levels, --range, --key: {name!r} of the package has its own: leave them out")
    with naming("--split" if split not in ("train", "test") else "DATA"):
        return sd.data(name, split)


def _printed(said: dict[str, Any]) -> None:
    def error(value: float | None) -> Any:
        return "unknown" if value is None else value

    rows = [
        ("samples", f"{said['samples']} of {said['data']}, {said['left_out']} left out"),
        ("log p (nats)", _figure(said["log_prob"], said["log_prob_std_error"])),
        ("bits/dim", _figure(said["bits_per_dim"], said["bits_per_dim_std_error"])),
        ("trace error of the mean (nats)", error(said["probe_error"])),
        ("solver error (nats)", error(said["solver_error"])),
        ("density", f"{said['density']}, t0 = {said['t0']:g}" if said["t0"] is not None else "unknown"),
        ("prior", said["prior"]),
        ("calls a sample", said["calls"]),
        ("seconds", said["seconds"]),
    ]
    if said["draws"] > 1:
        rows.insert(5, ("dequantisation error (nats)", error(said["dequantisation_error"])))
    if "compare" in said:
        against = said["compare"]
        rows.append(
            (f"{against['model']} minus this (nats)", _figure(against["log_prob"], against["log_prob_std_error"]))
        )
    listed(("", said["model"]), rows)
    typer.echo("\n".join(said["files"].values()))


def _figure(value: float | None, error: float | None) -> str:
    if value is None:
        return "none: continuous data"
    return f"{value:.4f}" + (f" +- {error:.4f}" if error is not None else "")
