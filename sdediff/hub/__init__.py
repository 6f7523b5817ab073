"""Model folders, the models and data inside the package, hub ids, and models from code."""

from __future__ import annotations

from sdediff.hub.card import readme, summary
from sdediff.hub.embedded import ASSETS, data, models
from sdediff.hub.errors import HubError
from sdediff.hub.loading import READERS, Reader, load
from sdediff.hub.origin import Origin, Provenance, provenance
from sdediff.hub.saving import save, write_config
from sdediff.hub.trust import TrustError

__all__ = [
    "ASSETS",
    "READERS",
    "HubError",
    "Origin",
    "Provenance",
    "Reader",
    "TrustError",
    "data",
    "load",
    "models",
    "provenance",
    "readme",
    "save",
    "summary",
    "write_config",
]
