"""Write a page a room of the package, with public names under the names that people write: docs/api/<room>.rst."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import sdediff

# The topics of the reference in reading order: the room, and its title.
TOPICS = {
    "sde": "Processes",
    "model": "Networks and their predictions",
    "grids": "Times and levels",
    "solvers": "Solvers",
    "sampling": "Sampling",
    "noise": "Noise",
    "guidance": "Guidance",
    "inverse": "Inverse problems and image to image",
    "likelihood": "Likelihoods",
    "paths": "Densities of the paths of stochastic solvers",
    "analysis": "Exact analysis and the choice of a solver",
    "wiring": "Is the network wired right?",
    "hub": "Stored models and data",
    "bridges": "Models of other libraries",
    "datasets": "Data sets",
    "jobs": "Long work in shards",
    "benchmark": "Benchmarks",
    "training": "Training",
    "adapters": "Low-rank adapters",
    "nets": "Small networks",
    "targets": "Distributions with a known density",
    "metrics": "Distances between samples",
    "integrate": "ODEs and SDEs",
    "testing": "The conformance kit",
}
ERRORS = ("Error", "DataWarning", "NameWarning", "StepsWarning", "WiringWarning")


def entry(name: str, value: Any) -> str:
    """The directive that documents one name."""
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
    else:
        kind = "autofunction" if callable(value) else "autodata"
    derived = inspect.isclass(value) and value.__bases__ != (object,)
    return f".. {kind}:: {name}\n" + "   :show-inheritance:\n" * derived


def page(room: str, title: str) -> str:
    """The page of a room: names that `sdediff` offers as well come first, under their short names."""
    module = importlib.import_module(f"sdediff.{room}")
    short, long = [], []
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            continue
        at_top = name in sdediff.__all__ and getattr(sdediff, name) is value
        (short if at_top else long).append((f"sdediff.{name}" if at_top else f"sdediff.{room}.{name}", value))
    head = f"{title}\n{'=' * len(title)}\n\n.. automodule:: sdediff.{room}\n   :no-members:\n\n"
    return head + "\n".join(entry(name, value) for name, value in (*short, *long))


def write(app: Any) -> None:
    """Write the pages that have changed, for the build that begins."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    texts = {room: page(room, title) for room, title in TOPICS.items()}
    title = "Errors and warnings"
    names = "\n".join(entry(f"sdediff.{name}", getattr(sdediff, name)) for name in ERRORS)
    texts["errors"] = f"{title}\n{'=' * len(title)}\n\n{names}"
    for path in folder.glob("*.rst"):
        if path.stem not in texts:
            path.unlink()
    for room, text in texts.items():
        path = folder / f"{room}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Any) -> dict[str, bool]:
    """Write the pages before sphinx reads its sources."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
