"""`sample`: draws samples, and shows images in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff.cli import drawing
from sdediff.cli.guidance_options import GuidanceOptions
from sdediff.cli.image_options import ImageOptions
from sdediff.cli.job_options import JobOptions, print_estimate
from sdediff.cli.model_options import Model, ModelOptions, StatisticsOf
from sdediff.cli.options import (
    BadInput,
    Json,
    Out,
    Seed,
    make_solver,
    naming,
    pair,
    sample_shape,
    solver_and_grid,
    writable,
)
from sdediff.cli.output import emit
from sdediff.cli.recommended import recommended

if TYPE_CHECKING:
    from sdediff.model.score_model import ScoreModel
    from sdediff.sampling.run import Plan
    from sdediff.solvers import Solver


def sample(
    model: Model,
    network: ModelOptions,
    job: JobOptions,
    steer: GuidanceOptions,
    start: ImageOptions,
    solver: Annotated[str, typer.Option(help="A name of `sdediff solvers`, or auto.")] = "dpmpp_2m",
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps, without the final denoising.")] = None,
    calls: Annotated[int | None, typer.Option(min=1, help="Network evaluations in all, instead of steps.")] = None,
    grid: Annotated[str | None, typer.Option(help="log_snr, karras, beta, ...; default: the solver's.")] = None,
    n: Annotated[int, typer.Option("-n", "--samples", min=1, help="Number; above 256 as a job that resumes.")] = 64,
    index: Annotated[int, typer.Option(min=0, help="Index of the first sample; sample i depends on (seed, i).")] = 0,
    option: Annotated[list[str] | None, typer.Option(help="key=value of the solver; repeatable.")] = None,
    lower_order_final: Annotated[bool, typer.Option(help="Lower a multistep solver's order at the end.")] = False,
    refresh: Annotated[bool, typer.Option(help="Of --solver auto: measure again what was kept.")] = False,
    shape: Annotated[str | None, typer.Option(help="Of one sample, such as 1,8,8; default: the card's.")] = None,
    statistics: StatisticsOf = None,
    log_prob: Annotated[str | None, typer.Option(metavar="steps", help="Write each step's log density too.")] = None,
    pictures: Annotated[bool, typer.Option(help="Write a PNG for every sample too.")] = False,
    out: Out = Path("sample-results"),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Draw samples of a model: writes samples.npz, and samples.png for images."""

    solver, named = solver_and_grid(solver)
    grid = grid or named
    used = _chosen(solver, option or (), lower_order_final, grid)
    loaded, given_cond = network.given(network.load(model, statistics), n)
    loaded = steer.free(loaded, given_cond, network.prompt)
    guided = steer.limited(loaded, drawing.limit_of(loaded))
    size = sample_shape(loaded, shape)
    start.check()
    _known_grid(grid)
    given = (("--calls", calls), ("--steps", steps), ("--grid", grid))
    with naming(next((flag for flag, value in given if value is not None), "--solver")):
        planned = _planned(model, guided, size, used, steps, calls, grid, refresh, given_cond)
    shown = repr(planned.solver) if solver == "auto" else solver
    line = f"{shown} on {grid or drawing.grid_of(planned.solver)}, {{calls}} calls, seed {seed}"
    if n > drawing.BATCH or pictures or job.any:
        drawing.check_job(log_prob, start)
        options = {
            "samples": n, "shape": size, "solver": planned.solver, "grid": planned.times, "seed": seed, "index": index,
            "cond": given_cond, "clip": pair(steer.clip, "--clip"),
            "threshold": drawing.threshold_of(loaded, steer.threshold),
            "dtype": network.placed[1], "device": str(network.placed[0]),
        }  # fmt: skip
        if job.dry_run:
            return print_estimate(drawing.estimated(loaded, out, job, options), as_json)
        drawn = drawing.as_job(loaded, writable(out), job, {**options, "pictures": pictures})
        if drawn is None:
            return  # the part that ends last prints the result
        settings, files = {**drawn.settings, "model": model, "n": n, "calls": drawn.calls}, drawn.files
        settings["seconds"] = drawn.seconds
        if loaded.autoencoder is not None:
            settings["samples_of"] = "latents"
    else:
        run = {"index": index, "seed": seed, "cond": given_cond, **drawing.densities(log_prob, planned)}
        settings, files = drawing.at_once(model, guided, planned, (n, *size), writable(out), run, start)
    if as_json:
        emit({**settings, "files": files})
        return
    typer.echo(line.format(calls=settings["calls"]))
    of = f", {settings['samples_of']}" if "samples_of" in settings else ""
    typer.echo(f"{n} samples of {model}{of} in {settings['seconds']} s")
    typer.echo("\n".join(str(path) for path in files.values()))


def _chosen(name: str, options: Sequence[str], lower: bool, grid: str | None) -> Solver | str:
    """The solver with its options; "auto" passes through and takes no options."""
    from sdediff.sampling.starts import check_alone
    from sdediff.solvers import lower_order_final

    if name == "auto":
        given = {"--option": options, "--lower-order-final": lower, "--grid": grid}
        for flag in [flag for flag, value in given.items() if value]:
            raise BadInput(f"{flag}: --solver auto chooses that too: leave {flag} out, or name a solver")
        return name
    used = make_solver(name, options)
    with naming("--solver"):
        check_alone(used)
    with naming("--lower-order-final"):
        return lower_order_final(used) if lower else used


def _planned(
    name: str,
    model: ScoreModel,
    size: tuple[int, ...],
    used: Solver | str,
    steps: int | None,
    calls: int | None,
    grid: str | None,
    refresh: bool,
    cond: dict[str, Any] | None,
) -> Plan:
    """The solver and times; of auto those that are kept with the model, or measured now."""
    import sdediff as sd

    if refresh and used != "auto":
        raise BadInput("--refresh: it measures anew what --solver auto has kept: leave it out, or write --solver auto")
    if used != "auto":
        return sd.Sampler(model, solver=used, steps=steps, calls=calls, grid=grid).plan()
    if steps is not None and calls is not None:
        raise BadInput("--calls: --steps was given too: give one of them")
    best = recommended(name, model, size, calls or (steps or 20) + 1, cond=cond, refresh=refresh)
    return sd.Sampler(model, solver=best.solver, grid=best.times).plan()


def _known_grid(name: str | None) -> None:
    from sdediff._utils.suggestions import nearest
    from sdediff.grids.grids import GRIDS

    if name is not None and name not in GRIDS:
        raise BadInput(f"--grid: {nearest(name, GRIDS, 'grid')}")
