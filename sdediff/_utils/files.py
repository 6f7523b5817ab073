"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from sdediff._utils.errors import InputError, InputTypeError


def expanded(path: str | Path, what: str = "the path") -> Path:
    """A path with ~ filled in. InputError where no file can have it: an unknown user, too long, a NUL inside."""
    try:
        full = Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            full.lstat()  # from Python 3.14 on `exists` does not say why there is none
    except TypeError as error:
        raise InputTypeError(f"{what} is a {type(path).__name__}: give a text or a Path") from error
    except (RuntimeError, OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"{what} {str(path)[:80]!r} is no path that can be ({said}): write another") from error
    return full


def present(path: str | Path) -> bool:
    """Whether there is a file or folder; False for what no path can be."""
    try:
        return expanded(path).exists()
    except (OSError, ValueError):
        return False


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name and the metadata of a safetensors file. InputError: a file that is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call,unused-ignore]
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as safetensors ({error}): copy or download it again") from error


@contextmanager
def whole(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """A path to write a file or folder to; on success it becomes `path`, on any error nothing is left.

    Makes the folder around it. What was written is on the disk before the name appears, so a machine that stops leaves
    no torn file. durable=False leaves that to the system, for files that are compared with a hash when they are read.
    """
    path = expanded(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The host stands in the name because processes of several machines may share a folder.
    unfinished = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    try:
        yield unfinished
        if durable:
            _synced(unfinished)
        os.replace(unfinished, path)
        if durable:
            with suppress(OSError):  # not every file system lets a folder be synced
                _synced(path.parent)
    finally:
        removed(unfinished)


def removed(path: Path) -> None:
    """Remove a file, or a folder with its files; nothing where there is none."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _synced(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)  # Windows syncs open writers alone
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
