"""The base of every error that the package raises on purpose, and the general ones."""

from __future__ import annotations

import re


class Error(Exception):
    """The base of every error that the package raises on purpose: its message says what to write instead.

    A message is one line, whatever values it shows.
    """

    def __str__(self) -> str:
        return re.sub(r"\s*\n\s*", " ", super().__str__())


class InputError(Error, ValueError):
    """An argument whose value cannot be used: the message says what was given and what is needed."""


class InputTypeError(Error, TypeError):
    """An argument of a type that cannot be used: the message says what was given and what is needed."""


class MissingPackageError(Error, ImportError):
    """An optional package is needed and is not installed: the message has the line that installs it."""


class DataWarning(UserWarning):
    """Data that may not be what the model was trained on: the message says what was given and what was expected."""


class StepsWarning(UserWarning):
    """Steps larger than a solver is stable for: the message says which step, and how many steps are needed."""


class NameWarning(UserWarning):
    """A name that stands for two things: the message says which was taken, and how to write the other."""


class WiringWarning(UserWarning):
    """A network that is not read as it was trained, or data prepared otherwise: the message has the check's verdict."""
