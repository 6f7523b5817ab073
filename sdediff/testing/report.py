"""The words of a conformance run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from sdediff._utils.errors import Error


class ConformanceError(Error, AssertionError):
    """A check failed: the message names the subject, the check, what was found and what was expected."""


class Check(NamedTuple):
    """One passed check: its name and what was seen."""

    name: str
    detail: str


class Failed(Error):
    """Raised inside a check: what was found and what was expected."""


def expect(true: Any, message: str) -> None:
    """Fail the running check unless `true`."""
    if not bool(true):
        raise Failed(message)


def run_checks(subject: Any, checks: Iterable[Callable[[Any], str]]) -> list[Check]:
    """Run every check on the subject; ConformanceError names the first that fails."""
    passed = []
    for check in checks:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            passed.append(Check(name, check(subject)))
        except Exception as error:
            said = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            raise ConformanceError(f"{subject!r} fails {name!r}: {said}") from error
    return passed
