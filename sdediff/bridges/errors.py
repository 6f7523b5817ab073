"""The error of files and objects of other libraries."""

from __future__ import annotations

from sdediff._utils.errors import Error


class BridgeError(Error, ValueError):
    """A model of another library cannot be read: the message says what was met, and what to give or write."""
