"""What every command takes: `--config FILE`, arguments from a TOML file, and `--quiet` or `--verbose`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import tomllib
import typer

from sdediff._utils.files import expanded
from sdediff._utils.progress import ALWAYS
from sdediff._utils.suggestions import nearest
from sdediff.cli.options import BadInput

_MOST = 1 << 20  # bytes


def with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with `--config`, whose file gives what was not typed, and `--quiet` or `--verbose`."""
    quiet = _with_quiet(command)

    @functools.wraps(quiet)
    def run(config: Path | None = None, **options: Any) -> Any:
        return quiet(**options)

    return _taking(run, quiet, config=_Config)


def _with_quiet(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with `--quiet` or `--verbose`.

    A quiet command writes nothing on stderr but the line of an error; a verbose one draws its progress bars where
    stderr is no terminal too.
    """

    @functools.wraps(command)
    def run(quiet: bool | None = None, **options: Any) -> Any:
        shown = ALWAYS.set(quiet is False)
        try:
            with contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext():
                return command(**options)
        finally:
            ALWAYS.reset(shown)

    return _taking(run, command, quiet=_Quiet)


def _taking(run: Callable[..., Any], command: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`run` with the parameters of a command and more options, None by default."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [
        *signature.parameters.values(),
        *(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in options.items()
        ),
    ]
    described: Any = run
    described.__signature__ = signature.replace(parameters=parameters)
    described.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _fill(context: typer.Context, file: Path | None) -> None:
    """Make the file's arguments the defaults of a command that is about to be parsed."""
    if file is None or context.parent is None:
        return
    commands = _commands(context.find_root().command) | _commands(context.parent.command)
    takes = {name: _parameters(command) for name, command in commands.items()}
    shared = _read(file)
    tables = {name: shared.pop(name) for name in commands if isinstance(shared.get(name), dict)}
    every = {key: None for parameters in takes.values() for key in parameters}
    _known(shared, every, f"key in {file}")
    for name, table in tables.items():
        _known(table, takes[name], f"key of [{name}] in {file}")
    own = takes[str(context.info_name)]
    given = {key: value for key, value in shared.items() if key in own} | tables.get(str(context.info_name), {})
    context.default_map = {
        own[key].name: _argument(own[key], value, f"{key} in {file}") for key, value in given.items()
    }


def _commands(group: Any) -> dict[str, Any]:
    """The commands of a group by name, those of the groups in it too."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        found |= _commands(command) if hasattr(command, "commands") else {name: command}
    return found


_Quiet = Annotated[
    bool | None,
    typer.Option("--quiet/--verbose", help="Nothing on stderr but errors; or progress bars without a terminal too."),
]
_Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=_fill,
        metavar="FILE",
        help="TOML with arguments: keys for all commands, [sample] for one; what is typed comes first.",
    ),
]


def _read(file: Path) -> dict[str, Any]:
    try:
        path = expanded(file, "the file")
        if path.stat().st_size > _MOST:
            raise BadInput(f"--config: {file} is larger than 1 MiB: give a TOML file of arguments")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"--config: {file} is no TOML ({error}): write lines such as calls = 20") from error
    except (OSError, RuntimeError) as error:
        raise BadInput(f"--config: {file} cannot be read ({error}): give a TOML file") from error


def _parameters(command: Any) -> dict[str, Any]:
    """The parameters of a command by the keys that a file has for them: flags without dashes, arguments' names."""
    found = {}
    for param in command.params:
        if param.name not in ("config", "help"):
            flags = [flag.lstrip("-") for flag in param.opts if flag.startswith("-")]
            found.update(dict.fromkeys(flags or [str(param.name).rstrip("_")], param))
    return found


def _known(given: Collection[str], names: Collection[str], what: str) -> None:
    for key in given:
        if key not in names:
            raise BadInput(f"--config: {nearest(key, names, what)}")


def _argument(param: Any, value: Any, where: str) -> Any:
    """A value of TOML as it would have been typed: lists for what may be repeated, else joined by commas."""
    if isinstance(value, dict):
        value = [f"{key}={entry}" for key, entry in value.items()]
    if getattr(param, "is_flag", False):
        if not isinstance(value, bool):
            raise BadInput(f"--config: {where} = {value!r}: write true or false")
        return value
    if isinstance(value, bool):
        raise BadInput(f"--config: {where} takes a value: write it in place of {str(value).lower()}")
    rows = value if isinstance(value, list) else [value]
    if any(isinstance(row, list | dict) for row in rows):
        raise BadInput(f"--config: {where} holds lists or tables inside of one another: write plain values")
    texts = [str(row) for row in rows]
    return texts if param.multiple or param.nargs != 1 else ",".join(texts)
