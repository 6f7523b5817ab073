"""Exceptions that end a job."""

from __future__ import annotations

import signal

from sdediff._utils.errors import Error


class JobError(Error, ValueError):
    """The job cannot start or continue; the message names the folder or field and says what to do."""


class InputChanged(JobError):
    """The input of a job is not what it was when the job began."""


class Stopped(KeyboardInterrupt):
    """The job was interrupted by Ctrl-C or SIGTERM; finished shards stay. `code` is the exit code for the signal."""

    def __init__(self, number: int, message: str = "interrupted") -> None:
        super().__init__(message)
        self.number = number
        self.code = 128 + number if number == signal.SIGTERM else 130
