"""Options that commands share, and the functions that parse them."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdediff._utils.errors import Error
from sdediff._utils.files import expanded
from sdediff._utils.references import import_from_here, is_reference

if TYPE_CHECKING:
    import torch

    from sdediff.model.score_model import ScoreModel
    from sdediff.solvers import Solver

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Seed = Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Seed of every random draw.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, ..., or auto: a GPU if there is one.")]
Dtype = Annotated[str | None, typer.Option(help="float32, float64, ...; default: as the weights are stored.")]
Check = Annotated[bool, typer.Option("--check/--no-check", help="First check whether the network is wired right.")]
ModelRange = Annotated[
    str | None, typer.Option(metavar="LOW,HIGH", help="The network's range of values, where its card has none.")
]
Out = Annotated[Path, typer.Option(help="Folder for the results; created where absent.")]

_DTYPES = ("float32", "float64", "bfloat16", "float16")


# What an argument that cannot be used may raise.
REFUSALS = (Error, ValueError, TypeError, OSError, ImportError)


class BadInput(Error):
    """An argument cannot be used: one line that names the option or file and what to write instead."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def one_line(message: str) -> str:
    """A message without line breaks, words of more than 300 characters in it shortened."""
    return " ".join(w if len(w) <= 300 else f"{w[:40]}...({len(w)} characters)...{w[-20:]}" for w in message.split())


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Errors raised inside begin with the name of the option or argument that caused them."""
    try:
        yield
    except REFUSALS as error:
        raise BadInput(f"{what}: {error}") from error


def placed(device: str, dtype: str | None) -> tuple[torch.device, torch.dtype | None]:
    """The device and dtype by name, refused where this machine lacks them."""
    import torch

    from sdediff._utils.suggestions import nearest

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        have = "cpu or cuda" if torch.cuda.is_available() else "cpu"
        raise BadInput(f"--device: {device!r} is not usable on this machine: write {have}") from error
    if place.type == "meta":
        raise BadInput("--device: 'meta' holds no values: write cpu")
    if dtype is not None and dtype not in _DTYPES:
        raise BadInput(f"--dtype: {nearest(dtype, _DTYPES, 'dtype')}")
    return place, None if dtype is None else getattr(torch, dtype)


def solver_and_grid(name: str) -> tuple[str, str | None]:
    """The solver, and the grid or None, that a name of another interface stands for; other names pass through."""
    from sdediff._utils.suggestions import parse_ui_name
    from sdediff.solvers.registry import names

    return parse_ui_name(name, names()) or (name, None)


def make_solver(
    name: str, options: Sequence[str] = (), flag: str = "--solver", option_flag: str = "--option"
) -> Solver:
    """A solver by name with options as key=value texts; a name that brings a grid is refused."""
    from sdediff._utils.suggestions import nearest
    from sdediff.solvers import REGISTRY, solver

    given, (name, grid) = name, solver_and_grid(name)
    if grid is not None:
        raise BadInput(f"{flag}: {given!r} names the grid {grid!r} too, which this command does not take: write {name}")
    if is_reference(name):
        import_from_here()
    with naming(flag):
        plain = solver(name)
    takes = inspect.signature(REGISTRY.get(name, type(plain))).parameters
    values: dict[str, Any] = {}
    for text in options:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise BadInput(f"{option_flag}: {text!r} is not key=value; {name} takes {', '.join(takes) or 'none'}")
        if key not in takes:
            known = nearest(key, takes, f"option of {name}") if takes else f"{name} takes no options, given {key!r}"
            raise BadInput(f"{option_flag}: {known}")
        values[key] = value_of(value)
        default = takes[key].default
        if isinstance(default, int | float) and not isinstance(values[key], int | float):
            raise BadInput(f"{option_flag}: {key}={value!r} must be a number, such as {default}")
    with naming(option_flag):
        return solver(name, **values)


def value_of(text: str) -> Any:
    """A number, list or other literal from text; other text as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def pair(text: str | None, flag: str) -> tuple[float, float] | None:
    """Two rising numbers from "low,high"."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise BadInput(f"{flag}: {text!r} is not two rising numbers: write low,high such as 0,255")
    return low, high


def with_range(model: ScoreModel, text: str | None) -> ScoreModel:
    """The model with the range of values of --model-range."""
    from sdediff.model import ranged

    bounds = pair(text, "--model-range")
    try:
        return model if bounds is None else ranged(model, bounds)
    except Error as error:
        raise BadInput(f"--model-range: {error}") from error


def writable(out: Path) -> Path:
    """The folder, created, and checked that it takes files before any work is done."""
    with naming("--out"):
        out = expanded(out, "the folder")
    trial = out / f".trial.{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise BadInput(
            f"--out: {out} cannot be written ({error.strerror}): give a folder that you may write to"
        ) from error
    return out


def sample_shape(model: ScoreModel, given: str | None) -> tuple[int, ...]:
    """The shape of one sample, from --shape or the card."""
    known: Any = (model.card.get("data") or {}).get("shape")
    if given is None and known is None:
        raise BadInput("--shape: the model's card does not say the shape of a sample: write it, such as 1,8,8")
    try:
        size = tuple(int(part) for part in given.split(",")) if given is not None else tuple(known)
    except ValueError:
        size = ()
    if not size or min(size) < 1:
        raise BadInput(f"--shape: {given!r} is not a list of positive integers: write it as 1,8,8")
    if known is not None and size != tuple(known):
        raise BadInput(f"--shape: {given!r}, but the model's samples are {tuple(known)}: leave it out")
    return size
