"""Code by name: `package.module:attribute`, the entry points of plug-ins, and the importable name of a class."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import hint

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
# The kinds of things that a package may register, each as the entry points `sdediff.<kind>`.
PLUGIN_KINDS = ("contenders", "models", "networks", "processes", "solvers")


def is_reference(text: Any) -> bool:
    """Whether a text has the form package.module:attribute."""
    return isinstance(text, str) and len(text) < 1000 and _REFERENCE.fullmatch(text) is not None


def package_of(reference: str) -> str:
    """The package whose code a reference names."""
    return reference.partition(":")[0].partition(".")[0]


def import_from_here() -> None:
    """Find modules in the current directory, as `python -m` does and a console script does not."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())


def imported(reference: str, what: str = "object") -> Any:
    """The attribute that package.module:attribute names, imported. InputError says what is missing or what it raised.

    what: what is asked for, such as "model", for the messages.
    """
    if not is_reference(reference):
        raise InputError(f"{reference!r} is no reference to a {what}: write package.module:attribute")
    place, _, names = reference.partition(":")
    try:
        value: Any = importlib.import_module(place)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{place}.".startswith(f"{error.name}."):
            raise InputError(
                f"{reference}: no module {error.name!r} can be imported from here: install it, or start where it lies"
            ) from error
        raise InputError(f"{reference}: importing {place!r} raised {raised(error)}") from error
    for name in names.split("."):
        try:
            value = getattr(value, name)
        except AttributeError as error:
            public = [entry for entry in vars(value) if not entry.startswith("_")] if hasattr(value, "__dict__") else []
            raise InputError(f"{reference}: {place} has no {name!r}{hint(name, public)}") from error
    return value


def reference_to(thing: Any) -> str:
    """The package.module:attribute by which a class or a function is imported again.

    InputError: lambdas, what is made inside of a function, what the script that is running defines, and objects.
    """
    name, place = getattr(thing, "__qualname__", None), getattr(thing, "__module__", None)
    if not (callable(thing) and isinstance(name, str) and isinstance(place, str)):
        raise InputError(f"{type(thing).__name__} {thing!r:.60} has no importable name: give a class or a function")
    kind = "the class" if isinstance(thing, type) else "the function"
    if "<lambda>" in name:
        raise InputError("a lambda has no importable name: write it as a function of a module, def clock(level): ...")
    if "<locals>" in name:
        raise InputError(f"{kind} {name} is made inside of a function: move it to the top of a module")
    if place == "__main__":
        raise InputError(f"{kind} {name} is defined in the running script: move it to a module that can be imported")
    reference = f"{place}:{name}"
    if imported(reference) is not thing:
        raise InputError(f"{kind} {reference} is not what that name imports: give it a name of its own in its module")
    return reference


def location(reference: str) -> str:
    """Where the package that a reference names lies, found without running it."""
    package = package_of(reference)
    if package in sys.modules:
        file = getattr(sys.modules[package], "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError, AttributeError):
            spec = None
        if spec is None:
            return "not installed here"
        file = spec.origin
    return file or "a folder without __init__.py"


def plugins(kind: str) -> dict[str, EntryPoint]:
    """What installed packages register as the entry points `sdediff.<kind>`: name -> entry point."""
    return {entry.name: entry for entry in entry_points(group=f"sdediff.{kind}")}


def plugin(kind: str, entry: EntryPoint) -> Any:
    """What an entry point of `plugins(kind)` names, imported. InputError where that fails."""
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"the plug-in {entry.name!r} of sdediff.{kind} ({entry.value}) raised {raised(error)}"
        ) from error


def raised(error: BaseException) -> str:
    """An error in a message: its class and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__
