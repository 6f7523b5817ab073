"""What a model folder is refused for."""

from __future__ import annotations

from sdediff._utils.errors import Error


class HubError(Error, ValueError):
    """A model, its folder or its name cannot be used: the message names the file, what is wrong and the mend."""
