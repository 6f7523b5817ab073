"""Engines by name: local, workers, ray."""

from __future__ import annotations

from sdediff._utils.checks import known
from sdediff._utils.suggestions import nearest
from sdediff.jobs.engines import Engine, Local
from sdediff.jobs.errors import JobError
from sdediff.jobs.processes import Workers
from sdediff.jobs.work import Recipe, Say

ENGINES = ("local", "workers", "ray")


def engine_name(engine: str | None, workers: int | None, address: str | None) -> str:
    """The engine that the arguments name; JobError where they do not fit together."""
    name = engine or ("workers" if workers is not None else "local")
    if not known(name, ENGINES):
        raise JobError(f"engine: {nearest(name, ENGINES, 'engine')}")
    if name == "local" and workers is not None:
        raise JobError(f"workers={workers} has no effect with engine='local': leave engine out")
    if name == "workers" and workers is None:
        raise JobError("engine='workers' needs their number: give workers, such as 2")
    if name != "ray" and address is not None:
        raise JobError(f"address={address!r} is that of a Ray cluster: write engine='ray' with it")
    return name


def make_engine(name: str, workers: int | None, address: str | None, recipe: Recipe | None, say: Say) -> Engine:
    """The engine of a name; all but local need a recipe."""
    if name == "local" or recipe is None:
        return Local()
    if name == "workers":
        return Workers(recipe, workers or 1, say)
    from sdediff.jobs.ray_tasks import RayTasks

    return RayTasks(recipe, workers, address, say)
