"""Classes that a package registers as entry points: named so in folders, and loaded without being trusted again."""

import importlib
import json
import sys

import pytest
import torch

import sdediff as sd
from sdediff.hub import HubError

CODE = """
from dataclasses import dataclass

import torch

import sdediff as sd


class Net(torch.nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(float(scale)))

    def forward(self, x, t):
        return self.weight * x


@dataclass(frozen=True)
class Slow(sd.LinearSDE):
    rate: float = 2.0

    def alpha(self, t):
        return torch.exp(-self.rate * t)

    def sigma(self, t):
        return torch.sqrt(-torch.expm1(-2 * self.rate * t))


def model():
    return sd.ScoreModel(Net(0.5).eval(), Slow(3.0))


number = 3
"""
ENTRIES = """[sdediff.networks]
their_net = theirs_on_a_shelf:Net
their_number = theirs_on_a_shelf:number
[sdediff.processes]
their_slow = theirs_on_a_shelf:Slow
[sdediff.models]
their_model = theirs_on_a_shelf:model
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed distribution with entry points, as pip leaves it."""
    (tmp_path / "theirs_on_a_shelf.py").write_text(CODE)
    about = tmp_path / "theirs-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("theirs_on_a_shelf", None)


def test_registered_classes_need_no_trust(package):
    model = sd.load("their_model")
    sd.save(model, package / "folder", config={"scale": 0.5})
    config = json.loads((package / "folder/config.json").read_text())
    assert (config["net"]["class"], config["sde"]["class"]) == ("their_net", "their_slow")
    again = sd.load(package / "folder")
    x = torch.ones(3, 2)
    assert torch.equal(again(x, 0.4).x0, model(x, 0.4).x0)
    assert again.sde == model.sde
    assert sd.hub.provenance(again).module == "theirs_on_a_shelf"


def test_a_package_that_was_removed_and_a_name_of_no_class_are_refused(package, monkeypatch):
    sd.save(sd.load("their_model"), package / "folder", config={"scale": 0.5})
    path = package / "folder/config.json"
    text = path.read_text()
    path.write_text(text.replace('"their_net"', '"their_number"'))
    with pytest.raises(HubError, match="the plug-in 'their_number' is a int, needed is a subclass of Module"):
        sd.load(package / "folder")
    path.write_text(text)
    (package / "theirs-1.2.dist-info/entry_points.txt").unlink()
    importlib.invalidate_caches()
    with pytest.raises(HubError, match="unknown"):
        sd.load(package / "folder")
