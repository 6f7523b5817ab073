"""Models are saved and come back, and what cannot be saved."""

import json
import math
from dataclasses import replace

import pytest
import torch

from sdediff import hub
from sdediff.hub import HubError
from sdediff.hub.processes import SDES, sde_config, sde_from
from sdediff.model.score_model import ScoreModel, reschedule
from sdediff.sde.processes import VE, VP, Cosine
from sdediff.sde.table import Table
from tests.hub.folders import T, X, net


@pytest.mark.parametrize(
    "model",
    [
        ScoreModel(net(), VP(beta_max=12.5, t_min=1e-4)),
        ScoreModel(net(), VE(sigma_max=20.0), "score", "sigma"),
        ScoreModel(net(), Cosine(), "edm", sigma_data=0.5),
        ScoreModel(net(), Table.from_betas(torch.linspace(1e-4, 0.02, 50)), time="index", offset=0),
        reschedule(ScoreModel(net(), VP()), Table.from_sigmas([0.1, 1.0, 10.0])),
    ],
    ids=lambda m: f"{type(m.sde).__name__}-{m.predicts}",
)
def test_round_trip(model, tmp_path):
    again = hub.load(hub.save(model, tmp_path / "m", card={"figure": 1.5}, data={"name": "five"}))
    assert (again.sde, again.trained, again.predicts) == (model.sde, model.trained, model.predicts)
    assert (again.time, again.sigma_data, again.offset) == (model.time, model.sigma_data, model.offset)
    assert again.card == {"figure": 1.5, "name": "m", "data": {"name": "five"}}
    assert not again.net.training
    assert not any(p.requires_grad for p in again.net.parameters())
    t = T * model.sde.t_max
    assert torch.equal(again(X, t).x0, model(X, t).x0)


def test_saving_again_keeps_the_card(folder, tmp_path):
    first = hub.load(folder)
    second = hub.load(hub.save(first, tmp_path / "other"))
    assert second.card == {**first.card, "name": "other"}


def test_dtype(folder):
    assert hub.load(folder, dtype=torch.float64)(X.double(), T).x0.dtype == torch.float64
    half = hub.load(folder, dtype=torch.float16)
    hub.save(half, folder)
    assert next(hub.load(folder).net.parameters()).dtype == torch.float16


def test_loading_leaves_the_global_random_state(folder):
    before = torch.random.get_rng_state()
    hub.load(folder)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", sorted(SDES))
def test_every_process_round_trips(name):
    sde = Table((2.0, 1.0, -math.inf)) if name == "Table" else SDES[name]()
    written = json.loads(json.dumps(sde_config(sde), allow_nan=False))
    again = sde_from(written, "here")
    assert type(again) is type(sde)
    assert again == sde or (name == "LearnedVP" and again.fields == sde.fields)  # modules are equal by identity


def test_tables_by_hand():
    betas = [0.1, 0.2, 0.3]
    assert sde_from({"class": "Table", "kind": "betas", "values": betas}, "") == Table.from_betas(betas)
    assert sde_from({"class": "Table", "kind": "sigmas", "values": [1, 2]}, "") == Table.from_sigmas([1, 2])


# Saving.


def test_what_cannot_be_saved(tmp_path):
    class Mine(VP):
        pass

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    good = ScoreModel(net(), VP())
    cases = [
        (good, tmp_path / "full", {}, "holds something other than a model"),
        (replace(good, time=lambda t: t.time), tmp_path / "a", {}, "clock cannot be saved: a lambda has no importable"),
        (replace(good, sde=Mine()), tmp_path / "b", {}, "a Mine cannot be saved: the class .* inside of a function"),
        (replace(good, net=lambda x, t: x), tmp_path / "c", {}, "is no nn.Module: save the module itself, or write a"),
        (good.given(label=3), tmp_path / "e", {}, "carries the conditions label, which a folder does not hold"),
        (good, tmp_path / "d", {"x": math.nan}, "cannot be written as JSON"),
    ]
    for model, where, card, match in cases:
        with pytest.raises(HubError, match=match):
            hub.save(model, where, card=card)
        assert where.name == "full" or not where.exists()
