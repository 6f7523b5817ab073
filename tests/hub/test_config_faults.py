"""Faults of the config are refused in a sentence."""

import math

import pytest
import torch

from sdediff import hub
from sdediff.model.score_model import reschedule
from sdediff.sde.processes import VP
from tests.hub.folders import edit, refused


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": 2}, "format 2, this version reads 1"),
        ({"sde": {"class": "PV"}}, "unknown process 'PV': did you mean 'VP'"),
        ({"sde": None}, "sde must be an object"),
        ({"sde": {"class": "VP", "beta_mix": 1.0}}, "VP has no field 'beta_mix': did you mean"),
        ({"sde": {"class": "VP", "beta_min": "1"}}, "give a finite number"),
        ({"sde": {"class": "VP", "beta_min": math.nan}}, "give a finite number"),
        ({"sde": {"class": "Table", "kind": "beta", "values": [0.1]}}, "kind of table 'beta': did you mean 'betas'"),
        ({"sde": {"class": "Table", "kind": "betas"}}, "the process Table cannot be made"),
        ({"sde": {"class": "Table", "kind": "sigmas", "values": [2, 1]}}, "ascending sigmas"),
        ({"sde": {"class": "Table", "kind": "betas", "values": ["a", "b"]}}, "the process Table cannot be made"),
        ({"net": {"class": "UNett", "config": {}}}, "unknown network 'UNett': did you mean 'UNet'"),
        ({"net": {"class": "MLP", "config": {"dimension": 5}}}, "the network MLP cannot be made"),
        ({"net": {"class": "MLP", "config": {"dim": 5, "blocks": 10**12}}}, r"needs more than the \d+ tensors"),
        ({"net": {"class": "MLP", "config": {"dim": 5, "width": 10**6, "blocks": 2}}}, "not this network's weights"),
        ({"net": {"class": "MLP", "config": {"dim": 5, "width": 10**30}}}, "the network MLP cannot be made"),
        ({"net": {"class": "MLP", "config": {"dim": -5}}}, "the network MLP cannot be made"),
        ({"predicts": "epsilon"}, "epsilon"),
        ({"time": "clock"}, "clock"),
        ({"time": 3}, "time=3 is not what a model takes"),
        ({"sigma_data": -1.0}, r"sigma_data=-1\.0 is not"),
        ({"card": [1]}, "card must be an object"),
        ({"weights_of": "../../etc"}, "names no model beside it"),
        ({"weights_of": "digits-vq"}, "names no model beside it"),
        ({"sha256": "0" * 64}, "SHA-256 is not the one"),
    ],
)  # fmt: skip
def test_faults_of_the_config(folder, changes, match):
    edit(folder, **changes)
    refused(folder, match)


def test_weights_of_another_model_serve_a_process_of_their_own(folder):
    chain = folder.parent / "chain"
    chain.mkdir()
    (chain / "config.json").write_text((folder / "config.json").read_text())
    edit(chain, weights_of="digits-vp", sde={"class": "VP", "beta_max": 15.0})
    model = hub.load(chain)
    x, t = torch.zeros(1, 1, 8, 8), torch.tensor([0.5], dtype=torch.float64)
    assert torch.equal(model(x, t).x0, reschedule(hub.load("digits-vp"), VP(beta_max=15.0))(x, t).x0)
    edit(folder, weights_of="chain")
    refused(folder, "which has no weights of its own")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '"x"', "\x00"])
def test_config_that_is_no_json_object(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, r"config\.json: ")


def test_huge_config(folder):
    with (folder / "config.json").open("wb") as file:
        file.truncate(10**10)
    refused(folder, "more than a config can need")
