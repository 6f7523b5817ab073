"""`bench`: solvers side by side."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli.job_options import Address, EngineName, PartOf, Workers, job_errors
from sdediff.cli.model_options import MODEL_HELP, ModelOptions, conditioned, prompted
from sdediff.cli.options import BadInput, Check, Json, Seed, make_solver, naming, writable
from sdediff.cli.output import emit, show

if TYPE_CHECKING:
    from sdediff.benchmark import Report

# Where results go by default; a folder that holds another sweep is left as it is.
_FOLDER = "bench-results"


def bench(
    network: ModelOptions,
    model: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help=MODEL_HELP)] = None,
    targets: Annotated[list[str] | None, typer.Option(help="Targets with an exact score: gmm64,ring, ...")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="What samples of MODEL follow: digits, or a file or folder.")
    ] = None,
    solvers: Annotated[list[str] | None, typer.Option(help="name or name:key=value,... , joined by commas.")] = None,
    contenders: Annotated[
        list[str] | None, typer.Option(help="Samplers of other libraries: diffusers,k_diffusion:dpmpp_2m, ...")
    ] = None,
    grids: Annotated[list[str] | None, typer.Option(help="Grids for every solver, in place of its own.")] = None,
    calls: Annotated[list[str] | None, typer.Option(help="Network evaluations, such as 5,10.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every solver, from --seed on.")] = 3,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="90s, 3m or 1h: further seeds where the ranking is uncertain.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Samples that each run draws.")] = None,
    distances: Annotated[
        list[str] | None, typer.Option(help="frechet[pca32], energy, mmd, sliced_wasserstein; the first is shown.")
    ] = None,
    likelihoods: Annotated[int, typer.Option(min=0, help="Rows of data for each network's likelihood.")] = 32,
    check: Check = True,
    skip_failed: Annotated[bool, typer.Option("--skip-failed", help="Go on where every run fails.")] = False,
    part: PartOf = None,
    engine: EngineName = None,
    workers: Workers = None,
    address: Address = None,
    num_threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch.")] = None,
    out: Annotated[
        Path | None, typer.Option(help=f"Folder of the job; by default {_FOLDER}, or the next free.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare solvers for speed and quality: a table, bench.png and the cells as Parquet; a job that resumes."""
    from sdediff.benchmark import bench as sweep
    from sdediff.benchmark import resolve_contenders
    from sdediff.benchmark.measures import distance_functions
    from sdediff.benchmark.rounds import seconds_of

    place, kind = network.placed
    named = {
        text: text if text == "auto" else make_solver(*_solver(text), "--solvers", "--solvers")
        for text in _solvers(solvers)
    }
    counts = _counts(calls) if calls else (5, 10, 20, 50)
    kinds = _listed(distances) or ("frechet[pca32]", "energy")
    with naming("--distances"):
        distance_functions(kinds)
    with naming("--contenders"):
        resolve_contenders(_listed(contenders))
    with naming("--budget"):
        limit = None if budget is None else seconds_of(budget)
    models, given = _models(model or (), data, network)
    about: dict[str, Any] = {
        "contenders": _listed(contenders), "budget": limit, "targets": _targets(targets),
        "data": data, "grids": _grids(grids), "cond": given, "samples": samples,
        "seeds": seeds, "seed": seed, "distances": kinds, "check": check, "likelihoods": likelihoods,
        "trust": network.trust or (),
        "skip_failed": skip_failed, "device": place, "dtype": kind, "num_threads": num_threads, "part": part,
        "engine": engine, "workers": workers, "address": address,
    }  # fmt: skip
    what = "--samples" if samples else "--data" if data else "MODEL"
    folder, report = _run(out, what, lambda path: sweep(models, named or None, counts, out=path, **about))
    _print(report, folder, as_json)


def _run(out: Path | None, what: str, sweep: Callable[[Path], Report]) -> tuple[Path, Report]:
    """The sweep in its folder: without --out the first of the default ones that holds no other job."""
    from sdediff.jobs import JobError

    folder = writable(out or Path(_FOLDER))
    for count in itertools.count(2):
        with job_errors(folder, what):
            try:
                return folder, sweep(folder)
            except JobError as error:
                if out is not None or " holds another job: " not in str(error):
                    raise
        folder = writable(Path(f"{_FOLDER}-{count}"))
    raise BadInput("--out: no folder is free")


def _print(report: Report, folder: Path, as_json: bool) -> None:
    files = {name: str(folder / name) for name in ("cells.parquet", "times.parquet", "summary.json")}
    if report.finished:
        with naming("--out"):
            files["bench.png"] = str(report.plot(folder / "bench.png"))
            files |= {path.name: str(path) for path in report.pictures(folder)}
            if find_spec("plotly"):
                files["report.html"] = str(report.page(folder / "report.html"))
    if as_json:
        emit({**report.to_dict(), "files": files})
        return
    if not report.finished:
        return  # the part that ends last shows the result
    show(report.table())
    for cell in report.skipped:
        where = f"{cell.solver} at {cell.budget or cell.tolerance}, seed {cell.seed}"
        typer.echo(f"{cell.task}, {where}: {cell.status}")
    typer.echo("\n".join(files.values()))
    if "report.html" not in files:
        typer.echo("a page to sort and filter them: pip install plotly, and the same command again")


def _models(
    names: Sequence[str], data: str | None, network: ModelOptions
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The models by the names that were typed, under the prompt, and their conditions."""
    from sdediff.jobs.names import named_data

    if not names and (network.prompt or network.lora):
        raise BadInput(f"{'--prompt' if network.prompt else '--lora'}: it is of a model: name one")
    models, given = {}, None
    for name in names:
        loaded, given = conditioned(network.load(name), network.cond)
        models[name] = loaded if network.prompt is None else loaded.given(**prompted(loaded, network.prompt))
    if data is not None:
        with naming("--data"):
            named_data(data)
    return models or None, given


def _targets(given: list[str] | None) -> list[str] | None:
    from sdediff.targets import target

    names = _listed(given)
    with naming("--targets"):
        for name in names:
            target(name)
    return names or None


def _grids(given: list[str] | None) -> list[str] | None:
    from sdediff._utils.suggestions import nearest
    from sdediff.grids.grids import GRIDS

    names = _listed(given)
    for name in names:
        if name not in GRIDS:
            raise BadInput(f"--grids: {nearest(name, GRIDS, 'grid')}")
    return names or None


def _listed(given: list[str] | None) -> list[str]:
    """Names from texts that hold several, joined by commas, or that were given one by one."""
    return [name for text in given or () for name in text.split(",")]


def _solvers(given: list[str] | None) -> list[str]:
    """Texts name or name:key=value,key=value: what has no name before its key belongs to the solver before it."""
    found: list[str] = []
    for text in given or ():
        for at, part in enumerate(text.split(",")):
            if at and "=" in part and ":" not in part.partition("=")[0]:
                found[-1] += f",{part}"
            else:
                found.append(part)
    return found


def _solver(text: str) -> tuple[str, list[str]]:
    """The name and the options of name:key=value,... where the name may be package.module:MySolver."""
    from sdediff.solvers import names

    name, _, options = text.partition(":")
    if options and name not in names():
        name, _, options = text.rpartition(":") if "=" in text else (text, "", "")
    return name, options.split(",") if options else []


def _counts(given: list[str]) -> list[int]:
    try:
        counts = sorted({int(part) for text in given for part in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1:
        raise BadInput(f"--calls: {' '.join(given)!r} is not a list of positive integers: write it as 5,10,20")
    return counts
