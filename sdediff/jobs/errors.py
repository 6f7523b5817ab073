"""What ends a job early."""

from __future__ import annotations

import signal

from sdediff._utils.errors import Error


class JobError(Error, ValueError):
    """A job that cannot start or go on: one sentence with the folder or field, what is there, what to do."""


class Stopped(KeyboardInterrupt):
    """A job ended by Ctrl-C or SIGTERM: `code` is the exit code for it, finished shards stay."""

    def __init__(self, number: int, message: str = "interrupted") -> None:
        super().__init__(message)
        self.number = number
        self.code = 128 + number if number == signal.SIGTERM else 130
