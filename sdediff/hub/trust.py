"""Whose code a folder may run: our own, that of installed plug-ins, and that of packages which the user trusts."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.references import imported, is_reference, location, package_of
from sdediff.hub.errors import HubError

OURS = "sdediff"


class TrustError(HubError):
    """A folder names code of a package that is not trusted: the message says whose, and how to trust it."""


def trusted_names(trust: Any) -> tuple[str, ...]:
    """The packages that a `trust` argument names, a text or several."""
    names = (trust,) if isinstance(trust, str) else trust
    if not isinstance(names, list | tuple | set | frozenset) or not all(
        isinstance(name, str) and name for name in names
    ):
        raise InputTypeError(f'trust={trust!r:.60}: give names of packages, trust=["my_package"]')
    return tuple(sorted(set(names)))


def trusted_object(reference: str, what: str, kind: type | None, where: Path | str, trust: Collection[str]) -> Any:
    """What a folder's reference names, imported if its package is trusted.

    what: such as "network". kind: a class that it must be a subclass of, None for any function or class. TrustError:
    its package is neither ours nor trusted. HubError: it cannot be imported, or is something else.
    """
    if not is_reference(reference):
        raise HubError(f"{where}: the {what} {reference!r:.80} is no package.module:attribute: mend it")
    _check_trusted(reference.partition(":")[0], reference, what, where, trust)
    try:
        thing = imported(reference, what)
    except InputError as error:
        raise HubError(f"{where}: the {what} {error}") from error
    if not callable(thing) or (kind is not None and not (isinstance(thing, type) and issubclass(thing, kind))):
        needed = f"a subclass of {kind.__name__}" if kind is not None else "a class or a function"
        raise HubError(f"{where}: the {what} {reference} is a {type(thing).__name__}, needed is {needed}")
    # A trusted module may have imported what another package defines.
    _check_trusted(str(getattr(thing, "__module__", None)), reference, what, where, trust)
    return thing


def _check_trusted(module: str, reference: str, what: str, where: Path | str, trust: Collection[str]) -> None:
    package = package_of(module)
    if package == OURS or any(module == name or module.startswith(f"{name}.") for name in trust):
        return
    raise TrustError(
        f"{where}: its {what} is {reference}, so loading it runs code of the package {package!r} "
        f"({location(module)}), which is not part of sdediff: if you trust that code, write "
        f'sd.load(..., trust=["{package}"]) or --trust {package}'
    )
