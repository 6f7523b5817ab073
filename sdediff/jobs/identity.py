"""What identifies the inputs of a job: descriptions of models and values that are equal in every process."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import nn

from sdediff.hub import provenance
from sdediff.model.identity import words
from sdediff.model.score_model import ScoreModel

_FIELDS = ("sde", "predicts", "time", "sigma_data", "offset", "trained", "cond", "stats", "output", "changes")
_LONGEST = 200


def model_parts(model: ScoreModel) -> dict[str, Any]:
    """All that determines a model's outputs, as short texts: a hash of its weights, its network, process and clock."""
    origin, net = provenance(model), model.net
    return {
        "sha256": origin.weights, "net": described(repr(net) if isinstance(net, nn.Module) else net),
        **{name: described(getattr(model, name)) for name in _FIELDS},
        "reference": origin.reference, "module": origin.module, "version": origin.version, "source": origin.source,
    }  # fmt: skip


def described(value: Any) -> Any:
    """A value as JSON, equal in every process: plain values as they are, others by their class and content."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else " ".join(words(value, named=True))
    return text if len(text) <= _LONGEST else hashlib.sha256(text.encode()).hexdigest()
