"""Model folders, the models and data inside the package, and hub ids."""

from __future__ import annotations

from sdediff.hub.card import readme, summary
from sdediff.hub.errors import HubError
from sdediff.hub.folder import ASSETS, data, load, models, save, write_config

__all__ = ["ASSETS", "HubError", "data", "load", "models", "readme", "save", "summary", "write_config"]
