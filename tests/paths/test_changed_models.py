"""Paths of guided models: changes that carry momentum are replayed, and refused where their momentum would be lost."""

from __future__ import annotations

import pytest
import torch

import sdediff as sd
from sdediff import guidance
from tests.solvers.equivalence import net


def _guided(momentum):
    def labelled(x, t, label=0.0):
        return net(x, t) + 0.1 * torch.as_tensor(label, dtype=x.dtype)

    model = sd.ScoreModel(labelled, sd.VP())
    return guidance.adaptive_projected(model, 3.0, negative={"label": 0.0}, momentum=momentum).given(label=1.0)


@pytest.mark.parametrize("momentum", [0.0, -0.5])
def test_a_guided_path_is_replayed_to_the_bit(momentum):
    record = sd.sample(_guided(momentum), (3, 4), solver="ancestral", steps=6, log_prob="steps")
    assert torch.equal(sd.replay(record, _guided(momentum)), record.log_prob)


def test_momentum_that_would_be_lost_is_refused():
    record = sd.sample(_guided(0.0), (3, 4), solver="ancestral", steps=6, log_prob="steps")
    for call in (
        lambda model: sd.sample(model, (3, 4), steps=3, grad="checkpoint"),
        lambda model: sd.replay(record, model, grad="checkpoint"),
        lambda model: sd.smc(model, (3, 4), lambda x: x[:, 0], steps=3),
    ):
        with pytest.raises(sd.ModelError, match="carries momentum"):
            call(_guided(-0.5))
