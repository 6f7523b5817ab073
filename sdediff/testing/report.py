"""The outcome of a conformance run: the checks passed, or an error that names the first that fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sdediff._utils.errors import Error, StepsWarning


class ConformanceError(Error, AssertionError):
    """A check failed: the message names the subject, the check, what was measured and what was expected."""


class Check(NamedTuple):
    """One passed check: its name and what was measured."""

    name: str
    detail: str


class Failed(Error):
    """Raised inside a check: what was measured and what was expected."""


def expect(condition: Any, message: str) -> None:
    """Fail the running check unless the condition holds."""
    if not bool(condition):
        raise Failed(message)


def run_checks(subject: Any, checks: Mapping[str, Callable[[Any], str]]) -> list[Check]:
    """Run every check on the subject; ConformanceError names the first that fails."""
    passed = []
    for name, check in checks.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", StepsWarning)  # short runs are meant here
                passed.append(Check(name, check(subject)))
        except Exception as error:
            reason = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            raise ConformanceError(f"{subject!r} fails {name!r}: {reason}") from error
    return passed
