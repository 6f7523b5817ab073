"""Contenders by name: those of other libraries, those that packages register, and objects."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.references import imported, is_reference, plugin, plugins
from sdediff._utils.suggestions import nearest
from sdediff.benchmark.contenders.protocol import Contender

_HERE = "sdediff.benchmark.contenders"
# Library -> the module with its adapter: `named`, `everything`, DEFAULT and INSTALL.
LIBRARIES = {
    "diffusers": "diffusers_schedulers",
    "k_diffusion": "k_diffusion_samplers",
    "azula": "azula_samplers",
    "flow_matching": "flow_matching_solvers",
    "torchdiffeq": "torchdiffeq_methods",
    "torchsde": "torchsde_methods",
}
# How else the libraries are written.
_SPELLINGS = {"k-diffusion": "k_diffusion", "flow-matching": "flow_matching"}


def _adapter(library: str) -> Any:
    return importlib.import_module(f"{_HERE}.{LIBRARIES[library]}")


def installed(library: str) -> bool:
    """Whether a library of LIBRARIES is installed; it is not imported."""
    return importlib.util.find_spec(library) is not None


def missing(library: str) -> str:
    """What to write where a library is not installed: its pip line."""
    return f"{library} is not installed: {_adapter(library).INSTALL}"


def resolve_contenders(given: Sequence[Any]) -> list[Contender]:
    """Contenders by what users write, in order.

    A name of a library stands for its usual samplers, `library:all` for all of them, `library:sampler[:grid]
    [:option=value]` for one: "diffusers", "k_diffusion:dpmpp_2m", "k_diffusion:dpmpp_2m_sde:exponential:eta=0". Others
    are names that packages register as `sdediff.contenders`, references package.module:attribute, Contender objects
    or classes, and schedulers of diffusers, which are taken as they are. InputError: unknown names, with the nearest.
    MissingPackageError: a library that is not installed, with the line that installs it.
    """
    if isinstance(given, str | Contender) or not isinstance(given, Sequence):
        raise InputTypeError(f"contenders={given!r:.60}: give a list of names or objects, e.g. ['diffusers']")
    return [contender for one in given for contender in _resolved(one)]


def _resolved(given: Any) -> list[Contender]:
    if not isinstance(given, str):
        return [_object(given, repr(given)[:60])]
    head, _, rest = given.partition(":")
    library = _SPELLINGS.get(head, head)
    if library in LIBRARIES:
        if not installed(library):
            raise InputError(missing(library))
        adapter = _adapter(library)
        if rest == "all":
            return list(adapter.everything())
        return [_named(library, one) for one in ([rest] if rest else adapter.DEFAULT)]
    registered = plugins("contenders")
    if given in registered:
        return [_object(plugin("contenders", registered[given]), given)]
    if is_reference(given):
        return [_object(imported(given, "contender"), given)]
    raise InputError(nearest(given, [*LIBRARIES, *registered], "contender"))


def _named(library: str, text: str) -> Contender:
    """library:sampler[:grid][:option=value]."""
    name, *parts = text.split(":")
    grids = [part for part in parts if "=" not in part]
    if len(grids) > 1:
        raise InputError(f"{library}:{text} names {len(grids)} grids ({', '.join(grids)}): write one")
    options = dict(part.split("=", 1) for part in parts if "=" in part)
    try:
        return _adapter(library).named(name, *grids, **{key: _value(value) for key, value in options.items()})
    except TypeError as error:
        raise InputError(f"{library}:{text}: {error}") from error


def _value(text: str) -> Any:
    """An option's value: a boolean, a number or text."""
    if text in ("true", "True", "false", "False"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _object(thing: Any, shown: str) -> Contender:
    """A contender as an object; a class of one is made, a scheduler of diffusers is taken as it is."""
    made = _made(thing, shown)
    if not (isinstance(made.name, str) and made.name):
        raise InputError(f"{type(made).__name__} has no name: write name = 'euler' in its class")
    return made


def _made(thing: Any, shown: str) -> Contender:
    if isinstance(thing, type) and issubclass(thing, Contender):
        try:
            return thing()
        except TypeError as error:
            raise InputError(f"{shown}: {error}") from error
    if isinstance(thing, Contender):
        return thing
    adapter = _adapter("diffusers")
    if adapter.is_scheduler(thing):
        return adapter.of_scheduler(thing)
    raise InputTypeError(
        f"{shown} is a {type(thing).__name__}, needed is a benchmark.Contender, a name or a scheduler of diffusers"
    )
