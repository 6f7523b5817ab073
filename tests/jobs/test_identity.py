"""A job is of one model: what changes its outputs changes what the manifest says of it."""

from dataclasses import replace

import pytest

import sdediff as sd
from sdediff.jobs.identity import model_parts


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (sd.guidance.clip, "changes"), (lambda m: replace(m, output="sample"), "output"),
        (lambda m: replace(m, predicts="v"), "predicts"), (lambda m: replace(m, stats=None), "stats"),
    ],
)  # fmt: skip
def test_models_of_other_outputs_are_told_apart(other, part):
    model = sd.load("digits-vp")
    before, after = model_parts(model), model_parts(other(model))
    assert [name for name in before if before[name] != after[name]] == [part]
    assert model_parts(sd.guidance.clip(model)) == model_parts(sd.guidance.clip(model))
    assert model_parts(sd.guidance.clip(model, -2, 2)) != model_parts(sd.guidance.clip(model))
