"""`likelihood`: the log-likelihood of a data set, as a job that can be interrupted, resumed and shared."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

import sdediff as sd
from sdediff._utils.files import present
from sdediff._utils.suggestions import nearest
from sdediff.cli.data import Key, Levels, Range, Split, data_set
from sdediff.cli.job_options import Address, EngineName, PartOf, Workers, job_errors
from sdediff.cli.model_options import Cond, Model, StatisticsOf, Trust, conditioned, load_model
from sdediff.cli.options import (
    BadInput,
    Check,
    Device,
    Dtype,
    Json,
    ModelRange,
    Out,
    Seed,
    naming,
    pair,
    placed,
    with_range,
    writable,
)
from sdediff.cli.output import emit, listed
from sdediff.integrate import ODES
from sdediff.jobs import Summary, paired
from sdediff.jobs.engine_names import engine_name
from sdediff.likelihood import LikelihoodSettings
from sdediff.likelihood.settings import METHODS
from sdediff.model.score_model import ScoreModel

_HELP = {f.name: f.metadata["help"] for f in fields(LikelihoodSettings)}


def _option(name: str, **limits: Any) -> Any:
    """The option of a field of LikelihoodSettings, with the help of that field."""
    return typer.Option(help=_HELP[name], **limits)


def likelihood(
    model: Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help="digits, or a file or folder of data.")],
    split: Split = "test",
    levels: Levels = None,
    range_: Range = None,
    key: Key = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first rows alone.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Dequantisations a sample, weighted: a tighter bound.")] = 1,
    method: Annotated[str | None, typer.Option(help=_HELP["method"] + " An integrator stands for ode.")] = None,
    preset: Annotated[str | None, _option("preset")] = None,
    integrator: Annotated[str | None, _option("integrator")] = None,
    variable: Annotated[str | None, _option("variable")] = None,
    trace: Annotated[str | None, _option("trace")] = None,
    probes: Annotated[int | None, _option("probes", min=1)] = None,
    nodes: Annotated[int | None, _option("nodes", min=1)] = None,
    autograd: Annotated[bool | None, _option("autograd")] = None,
    rtol: Annotated[float | None, _option("rtol")] = None,
    atol: Annotated[float | None, _option("atol")] = None,
    t0: Annotated[float | None, _option("t0")] = None,
    end: Annotated[str | None, _option("end")] = None,
    prior: Annotated[str | None, _option("prior")] = None,
    steps: Annotated[int | None, _option("steps", min=1)] = None,
    noises: Annotated[int | None, _option("noises", min=1)] = None,
    fresh: Annotated[bool | None, _option("fresh")] = None,
    variance: Annotated[str | None, _option("variance")] = None,
    solver_error: Annotated[str | None, _option("solver_error")] = None,
    max_steps: Annotated[int | None, _option("max_steps", min=1)] = None,
    frozen: Annotated[bool | None, _option("frozen")] = None,
    micro_batch: Annotated[int, typer.Option(min=1, help="Samples that the network sees at once.")] = 64,
    shard: Annotated[int | None, typer.Option(min=1, help="Samples that are written together.")] = None,
    skip_bad: Annotated[bool, typer.Option(help="Give means in spite of rows with NaN or Inf.")] = False,
    skip_failed: Annotated[bool, typer.Option(help="Give means in spite of rows on which the network failed.")] = False,
    part: PartOf = None,
    workers: Workers = None,
    engine: EngineName = None,
    address: Address = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads of torch.")] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="OTHER", help="A second model, for paired differences.")
    ] = None,
    cond: Cond = None,
    statistics: StatisticsOf = None,
    trust: Trust = None,
    model_range: ModelRange = None,
    check: Check = True,
    out: Out = Path("likelihood-results"),
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Score a data set in nats and bits/dim: likelihood.parquet, summary.json, report.html. Resumes a job."""
    place, numbers = placed(_rank_device(device), dtype)
    settings = _settings(
        method, preset=preset, integrator=integrator, variable=variable, trace=trace, probes=probes, nodes=nodes,
        autograd=autograd, rtol=rtol, atol=atol, t0=t0, end=end, prior=prior, steps=steps, noises=noises, fresh=fresh,
        variance=variance, solver_error=solver_error, max_steps=max_steps, frozen=frozen,
    )  # fmt: skip
    scored = with_range(load_model(model, place, numbers, trust, statistics), model_range)
    other = None if compare is None else load_model(compare, place, numbers, trust, statistics, "--compare")
    with naming("--t0"):
        for network in (scored, other or scored):
            settings.start_time(network.sde)
    rows = data_set(data, split, levels, pair(range_, "--range"), key, limit)
    folder, kind = writable(out), _engine(engine, workers, address, statistics)
    named = _name_of(data, split) if kind != "local" else rows
    about: dict[str, Any] = {"levels": levels, "range": pair(range_, "--range"), "key": key} if kind != "local" else {}

    def run(network: ScoreModel, name: str, to: Path) -> Summary | None:
        network, given = conditioned(network, cond, len(rows), rows, limit)
        with job_errors(to, "DATA"):
            return sd.likelihood_job(
                network if kind == "local" else name, named, to, **about, settings=settings, limit=limit,
                seed=seed, draws=draws, micro_batch=micro_batch, shard=shard, part=part, engine=kind, workers=workers,
                address=address, dtype=numbers, device=place if kind == "local" else str(place), skip_bad=skip_bad,
                skip_failed=skip_failed, num_threads=threads, model_range=pair(model_range, "--model-range"),
                check=check, cond=given, trust=trust or (),
            )  # fmt: skip

    summary = run(scored, model, folder)
    second = None if other is None else run(other, str(compare), folder / "compared")
    if summary is None or (other is not None and second is None):
        return  # the part that ends last prints the result
    report: dict[str, Any] = {**summary.to_dict(), "model": model, "files": _files(folder)}
    if other is not None:
        with naming("--compare"):
            report["compare"] = {"model": compare, **paired(folder, folder / "compared")}
    if summary.refused:
        flag = "--skip-bad" if summary.bad_rows and not skip_bad else "--skip-failed"
        raise BadInput(
            f"DATA: {summary.refused}: the others are in {report['files']['parquet']}; add {flag} for a mean"
        )
    emit(report) if as_json else _print(report)


def _engine(engine: str | None, workers: int | None, address: str | None, statistics: str | None) -> str:
    """The engine's name; other processes than this one load MODEL by its name, without statistics from elsewhere."""
    kind = engine_name(engine, workers, address)
    if statistics is not None and kind != "local":
        raise BadInput("--statistics: worker processes load MODEL by its name: save it with its statistics, sd.save")
    return kind


def _files(folder: Path) -> dict[str, str]:
    """The files of a finished job."""
    names = {"parquet": "likelihood.parquet", "summary": "summary.json", "report": "report.html"}
    return {kind: str(folder / name) for kind, name in names.items()}


def _rank_device(device: str) -> str:
    """The device of this process: under torchrun each rank has its own accelerator."""
    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if device == "cuda" and rank else device


def _settings(method: str | None, **options: Any) -> LikelihoodSettings:
    """The settings, added one by one, so that an error carries the name of the option that brought it."""
    given = {name: value for name, value in options.items() if value is not None}
    if method is not None and method not in METHODS + ODES:
        raise BadInput(f"--method: {nearest(method, METHODS + ODES, 'method')}")
    if method is not None and method not in METHODS:
        if "integrator" in given:
            raise BadInput(f"--integrator: --method {method} is an integrator already: write --method ode")
        method, given = "ode", {"integrator": method, **given}
    settings = LikelihoodSettings(method=method)
    for name, value in given.items():
        with naming(f"--{name.replace('_', '-')}"):
            settings = replace(settings, **{name: value})
    return settings


def _name_of(data: str, split: str) -> str:
    """The data as other processes read them: a file, or data of the package with its split."""
    return data if _is_path(data) else f"{data}:{split}"


def _is_path(name: str) -> bool:
    return present(name) or "/" in name or bool(Path(name).suffix)


def _print(report: dict[str, Any]) -> None:
    bits = _figure(report["bits_per_dim"], report["bits_per_dim_std_error"])
    if report["levels"] is None:
        bits = "none: continuous data"
    rows = [
        ("samples", f"{report['samples']} of {report['data']}, {report['left_out']} left out"),
        ("log p (nats)", _figure(report["log_prob"], report["log_prob_std_error"])),
        ("bits/dim", bits),
        ("trace error of the mean (nats)", _or_unknown(report["probe_error"])),
        ("solver error (nats)", _or_unknown(report["solver_error"])),
        ("density", f"{report['density']}, t0 = {report['t0']:g}" if report["t0"] is not None else "unknown"),
        ("prior", report["prior"]),
        *([("beside the literature", report["difference"])] if report["difference"] else []),
        ("calls a sample", report["calls"]),
        ("seconds", report["seconds"]),
    ]
    if report["draws"] > 1:
        rows.insert(5, ("dequantisation error (nats)", _or_unknown(report["dequantisation_error"])))
    if "compare" in report:
        other = report["compare"]
        difference = _figure(other["log_prob"], other["log_prob_std_error"])
        rows.append((f"{other['model']} minus this (nats)", difference))
    listed(("", report["model"]), rows)
    typer.echo("\n".join(report["files"].values()))


def _or_unknown(value: float | None) -> Any:
    return "unknown" if value is None else value


def _figure(value: float | None, error: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4f}" + (f" +- {error:.4f}" if error is not None else "")
