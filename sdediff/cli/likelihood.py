"""`likelihood`: the log-likelihood of a data set, as a job that can be interrupted, resumed and shared."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

import sdediff as sd
from sdediff.cli.data import DATA_HELP, DataOptions
from sdediff.cli.job_options import JobOptions, job_errors, print_estimate
from sdediff.cli.likelihood_options import LikelihoodOptions
from sdediff.cli.model_options import Model, ModelOptions, StatisticsOf
from sdediff.cli.options import BadInput, Check, Json, ModelRange, Out, Seed, naming, pair, with_range, writable
from sdediff.cli.output import emit, listed
from sdediff.jobs import Estimate, Summary, likelihood_work, paired
from sdediff.jobs.engine_names import engine_name
from sdediff.model.score_model import ScoreModel

_AT_ONCE = 64


def likelihood(
    model: Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    read: DataOptions,
    scoring: LikelihoodOptions,
    network: ModelOptions,
    job: JobOptions,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first rows alone.")] = None,
    of: Annotated[
        str | None, typer.Option(metavar="latents|images", help="What DATA are to a latent model; of images a bound.")
    ] = None,
    decoder_std: Annotated[
        float | None, typer.Option(help="Of --of images: the decoder's deviation, the rms error of reconstructions.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Dequantisations a sample, weighted: a tighter bound.")] = 1,
    skip_bad: Annotated[bool, typer.Option(help="Give means in spite of rows with NaN or Inf.")] = False,
    compare: Annotated[
        str | None, typer.Option(metavar="OTHER", help="A second model, for paired differences.")
    ] = None,
    statistics: StatisticsOf = None,
    model_range: ModelRange = None,
    check: Check = True,
    out: Out = Path("likelihood-results"),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Score a data set in nats and bits/dim: likelihood.parquet, summary.json, report.html. Resumes a job."""
    network = replace(network, device=_rank_device(network.device))
    scored = [(model, with_range(network.load(model, statistics), model_range))]
    if compare is not None:
        scored.append((compare, with_range(network.load(compare, statistics, "--compare"), model_range)))
    settings = scoring.settings()
    with naming("--t0"):
        for _, one in scored:
            settings.start_time(one.sde)
    rows = read.read(data, limit)
    with job_errors(out, "DATA"):
        local = engine_name(job.engine, job.workers, job.address) == "local"
    named, about = (rows, {}) if local else read.by_name(data)
    options = {
        **about, "settings": settings, "limit": limit, "seed": seed, "draws": draws, "dtype": network.placed[1],
        "device": str(network.placed[0]), "model_range": pair(model_range, "--model-range"), "of": of,
        "decoder_std": decoder_std,
    }  # fmt: skip
    works = []
    for _, one in scored:
        told, given = network.given(one, len(rows), rows, limit)
        works.append((told, named, {**options, "cond": given}))
    if job.dry_run:
        with job_errors(out, "DATA"):
            print_estimate(_estimated(*works[0], out, job), as_json)
        return
    folder = writable(out)
    summaries = [
        _run(*work, to, job, check, skip_bad) for work, to in zip(works, (folder, folder / "compared"), strict=False)
    ]
    if all(summaries):  # the part that ends last prints the result
        _report(summaries[0], model, compare, folder, skip_bad, as_json)


def _run(
    model: ScoreModel, data: Any, options: dict[str, Any], to: Path, job: JobOptions, check: bool, skip_bad: bool
) -> Summary | None:
    with job_errors(to, "DATA"):
        return sd.likelihood_job(model, data, to, **options, **job.arguments(_AT_ONCE), skip_bad=skip_bad, check=check)


def _estimated(model: ScoreModel, data: Any, options: dict[str, Any], out: Path, job: JobOptions) -> Estimate:
    """What a job would take."""
    launch = job.launch(out, _AT_ONCE)
    work = likelihood_work(
        model, data, **options, micro_batch=launch.micro_batch, threads=launch.threads, say=launch.say
    )
    return launch.estimate(work)


def _report(
    summary: Summary | None, model: str, compare: str | None, folder: Path, skip_bad: bool, as_json: bool
) -> None:
    """Print what a finished job found, or refuse to where rows were left out."""
    if summary is None:
        return
    report: dict[str, Any] = {**summary.to_dict(), "model": model, "files": _files(folder)}
    if compare is not None:
        with naming("--compare"):
            report["compare"] = {"model": compare, **paired(folder, folder / "compared")}
    if summary.refused:
        flag = "--skip-bad" if summary.bad_rows and not skip_bad else "--skip-failed"
        raise BadInput(
            f"DATA: {summary.refused}: the others are in {report['files']['parquet']}; add {flag} for a mean"
        )
    emit(report) if as_json else _print(report)


def _files(folder: Path) -> dict[str, str]:
    """The files of a finished job."""
    names = {"parquet": "likelihood.parquet", "summary": "summary.json", "report": "report.html"}
    return {kind: str(folder / name) for kind, name in names.items()}


def _rank_device(device: str) -> str:
    """The device of this process: under torchrun each rank has its own accelerator."""
    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if device == "cuda" and rank else device


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
