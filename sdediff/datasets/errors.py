"""What reading of data may raise, and the libraries that a reader imports when it needs them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sdediff._utils.errors import Error, MissingPackageError


class DataError(Error, ValueError):
    """Data that cannot be used: one sentence with the file, what was given, what is needed, what to write."""


def needed(module: str, install: str) -> Any:
    """The module of that name, imported now; MissingPackageError with the line to write where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(f"this needs {module}, not importable here: pip install '{install}'") from error


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Errors of the libraries that read a file, as a DataError that begins with its name."""
    try:
        yield
    except (DataError, ImportError):
        raise
    except PermissionError as error:
        raise DataError(f"{name}: no permission to read it: give yourself the right") from error
    # On a damaged file numpy, gzip, zipfile and pyarrow raise an open set of types, tokenizer errors among them.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{name}: damaged or of another format ({reason}): fetch or write it again") from error
