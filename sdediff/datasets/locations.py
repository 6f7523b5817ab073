"""Where data are: a path on this machine, or an object of a store by its URL, through fsspec and pyarrow.fs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from sdediff._utils.suggestions import hint
from sdediff.datasets.errors import DataError, needed

_URL = re.compile(r"^([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
# Stores that pyarrow reaches without another package, by the scheme of their URLs.
_OF_PYARROW = ("s3", "gs", "gcs", "hdfs", "viewfs")


@dataclass(frozen=True)
class Location:
    """A file or folder by its path or URL; pickled as its text, and opened where it is read."""

    text: str

    @cached_property
    def local(self) -> Path | None:
        """The path on this machine, None for an object of a store."""
        url = _URL.match(self.text)
        if url and url[1].lower() not in ("file", "local"):
            return None
        try:
            return Path(self.text[url.end() :] if url else self.text).expanduser()
        except RuntimeError as error:  # ~name of a user who is not there
            raise DataError(f"{self.text}: {error} Write the path in full") from error

    @cached_property
    def name(self) -> str:
        """The last part of the path."""
        return self.local.name if self.local is not None else self.text.rstrip("/").rpartition("/")[2]

    @cached_property
    def ending(self) -> str:
        """The ending of the name in lower case, with its dot."""
        return Path(self.name).suffix.lower()

    @cached_property
    def _store(self) -> tuple[Any, str]:
        """The file system of a URL, as fsspec has them, and the path on it."""
        scheme = self.text.partition("://")[0].lower()
        fsspec = needed("fsspec", "fsspec")
        try:
            if scheme not in _OF_PYARROW:
                return fsspec.core.url_to_fs(self.text)
            files = needed("pyarrow.fs", "pyarrow")
            system, path = files.FileSystem.from_uri(re.sub("^gcs:", "gs:", self.text))
            return needed("fsspec.implementations.arrow", "fsspec").ArrowFSWrapper(system), path
        except DataError:
            raise
        except Exception as error:  # each store has errors of its own
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise DataError(f"{self.text}: the store cannot be reached ({reason}): check the URL") from error

    @cached_property
    def kind(self) -> str:
        """Either "file", "folder" or "absent". DataError for a path that no file can have."""
        try:
            if self.local is not None:
                return "folder" if self.local.is_dir() else "file" if self.local.exists() else "absent"
            system, path = self._store
            return "folder" if system.isdir(path) else "file" if system.exists(path) else "absent"
        except DataError:
            raise
        except (ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self.text[:200]}: no path of a file ({reason}): give a file or a folder") from error

    def required(self) -> Location:
        """Itself; DataError where nothing is there."""
        if self.kind == "absent":
            folder = self.local.parent if self.local is not None else None
            others = [p.name for p in folder.iterdir()] if folder is not None and folder.is_dir() else []
            raise DataError(f"{self.text}: no such file or folder{hint(self.name, others)}")
        return self

    @cached_property
    def size(self) -> int:
        """Bytes of the file."""
        if self.local is not None:
            return self.local.stat().st_size
        system, path = self._store
        return int(system.size(path))

    def open(self) -> BinaryIO:
        """The file, to read its bytes from any place."""
        if self.local is not None:
            return self.local.open("rb")
        system, path = self._store
        return system.open(path, "rb", **({"seekable": True} if type(system).__name__ == "ArrowFSWrapper" else {}))

    def inside(self) -> list[Location]:
        """What is in the folder, by name; hidden files are left out."""
        if self.local is not None:
            inside = [Location(str(path)) for path in self.local.iterdir()]
        else:
            system, path = self._store
            scheme = self.text.partition("://")[0]
            inside = [Location(f"{scheme}://{entry.lstrip('/')}") for entry in system.ls(path, detail=False)]
        return sorted((entry for entry in inside if not entry.name.startswith(".")), key=lambda entry: entry.name)

    def __getstate__(self) -> dict[str, Any]:
        return {"text": self.text}

    def __str__(self) -> str:
        return str(self.local) if self.local is not None and "://" not in self.text else self.text
