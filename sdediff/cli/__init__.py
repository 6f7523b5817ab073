"""The command line: `sdediff`, or `python -m sdediff`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sdediff._utils.suggestions import nearest
from sdediff.cli.options import REFUSALS, BadInput, one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 2 on bad input, with one line on stderr; 130 on Ctrl-C.

    argv: the arguments, by default the process's. With SDEDIFF_DEBUG set errors keep their traceback.
    """
    try:
        import typer

        from sdediff.cli.app import app

        _refuse_empty(sys.argv[1:] if argv is None else argv)
        command = typer.main.get_command(app)
        with _loud_lines():
            code = command.main(args=argv, prog_name="sdediff", standalone_mode=False)
        return _say("interrupted", 130) if code == 130 else code if isinstance(code, int) else 0
    except BadInput as error:
        return _say(str(error), error.code)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except Exception as error:
        if os.environ.get("SDEDIFF_DEBUG"):
            raise
        return _refused(error)


def _refuse_empty(argv: Sequence[str]) -> None:
    """An empty text is most often a variable of the shell that is not set."""
    for before, text in zip(("", *argv), argv, strict=False):
        if not text or (text.startswith("--") and text.endswith("=")):
            option = before if not text and before.startswith("-") else text.rstrip("=")
            raise BadInput(f"{option or 'an argument'}: an empty text was given: write a value, or leave it out")


def _refused(error: Exception) -> int:
    if type(error).__name__ == "Abort":
        return _say("interrupted", 130)
    if hasattr(error, "format_message"):  # typer carries its own copy of click, so its errors go by what they do
        return _say(_usage(error), 2)
    if isinstance(error, REFUSALS):
        return _say(str(error) or type(error).__name__, 2)
    return _say(f"{type(error).__name__}: {error} (SDEDIFF_DEBUG=1 shows where)", 1)


def _usage(error: Any) -> str:
    """A usage error in one sentence; an unknown option is answered with those of the command."""
    if type(error).__name__ != "NoSuchOption" or error.ctx is None:
        return error.format_message()
    command = error.ctx.command
    options = [name for param in command.get_params(error.ctx) for name in (*param.opts, *param.secondary_opts)]
    options = [name for name in options if name.startswith("-")]
    return nearest(error.option_name, options, f"option of {error.ctx.command_path}")


@contextmanager
def _loud_lines() -> Iterator[None]:
    """Warnings of networks that are wired wrongly and of steps that are too long, as one line on stderr each."""
    from sdediff._utils.errors import StepsWarning, WiringWarning

    with warnings.catch_warnings():
        for kind in (WiringWarning, StepsWarning):
            warnings.simplefilter("always", kind)
        plain, said = warnings.showwarning, set[str]()

        def shown(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, (WiringWarning, StepsWarning)):
                plain(message, category, *place, **more)
            elif str(message) not in said:
                said.add(str(message))
                _say(f"warning: {message}".replace("check=False", "--no-check"), 0)

        warnings.showwarning = shown
        yield


def _say(message: str, code: int) -> int:
    print(f"sdediff: {one_line(message)}", file=sys.stderr)
    return code
