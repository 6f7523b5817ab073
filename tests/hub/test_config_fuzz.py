"""Mutated configs: typed errors in one line, or the model as it was."""

import copy
import json
import random

import pytest
import torch

import sdediff as sd
from sdediff.sde.processes import VP
from tests.hub import foreign

VALUES = [
    None, True, False, 0, -1, 1, 3, 10**9, 10**30, 10**400, -(10**400), 0.0, -0.5, 1e308, float("nan"), float("inf"),
    "", "x", "VP", "Table", "UNet", "MLP", "t", "index", "eps", "edm", "../..", "tests.hub.foreign:Net", "os:system",
    "a:b", "\x00", "\ud800", "é" * 1000, [], [1], [[[]]], ["a"], {}, {"class": "VP"}, {"tuple": [1]},
    {"dtype": "float32"}, {"object": "os:system"}, {"float": "inf"}, {"base": "t"},
    {"function": "tests.hub.foreign:root"},
]  # fmt: skip


def places(value, path=()):
    """Every place in nested values."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def mutated(config, draw):
    """The config with one to three of its values replaced, removed or doubled."""
    config = copy.deepcopy(config)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        *way, last = draw.choice([path for path in places(config) if path])
        part = config
        for key in way:
            part = part[key]
        action = draw.random()
        if action < 0.15:
            del part[last]
        elif action < 0.25 and isinstance(part, dict):
            part[draw.choice(["more", "class", "config", "values", "weights_of"])] = copy.deepcopy(draw.choice(VALUES))
        else:
            part[last] = copy.deepcopy(draw.choice(VALUES))
    return config


def answer(folder):
    """The one line with which a folder is refused, or nothing: any other error fails the test."""
    try:
        sd.load(folder, trust=["tests", "torch"])
    except sd.Error as error:
        lines = str(error).splitlines()
    else:
        return ""
    assert len(lines) == 1, lines
    assert len(lines[0]) < 2000, lines
    return lines[0]


def run(folder, count, seed):
    """How many of `count` mutated configs were refused."""
    original, draw, refused = json.loads((folder / "config.json").read_text()), random.Random(seed), 0
    for _ in range(count):
        config = mutated(original, draw)
        config["sha256"] = config["statistics_sha256"] = None
        (folder / "config.json").write_text(json.dumps(config))
        refused += bool(answer(folder))
    return refused


@pytest.fixture(params=["ours", "foreign"])
def folder(request, tmp_path):
    stats = sd.statistics(torch.linspace(-1, 1, 50).reshape(10, 5) ** 3)
    if request.param == "ours":
        model, config = sd.ScoreModel(sd.nets.MLP(5, 16, 2), sd.Table.from_betas([0.1, 0.2, 0.3]), time="index"), None
    else:
        model, config = (
            sd.ScoreModel(foreign.Net(5), foreign.Ramp(), time=sd.Clock("t", 999)),
            {"dim": 5, "widths": (8, 8)},
        )
    model = sd.ScoreModel(model.net, model.sde, time=model.time, stats=stats)
    data = {"name": "five", "range": [-1, 1], "levels": 17, "shape": [5]}
    return sd.save(model, tmp_path / "m", card={"about": "a test"}, data=data, config=config)


def test_mutated_configs(folder):
    assert run(folder, 60, 1) > 20


@pytest.mark.slow
def test_two_thousand_mutated_configs(folder):
    assert run(folder, 2000, 2) > 500


@pytest.mark.parametrize("key", ["sde", "net", "card", "data", "time", "format", "predicts", "per_sample"])
@pytest.mark.parametrize("depth", [90, 900, 100_000])
def test_values_nested_deeply(tmp_path, key, depth):
    folder = sd.save(sd.ScoreModel(foreign.Net(5), VP()), tmp_path / "m", config={"dim": 5})
    text = (folder / "config.json").read_text()
    nest = "[" * depth + "1" + "]" * depth
    for value in (nest, '{"class": "tests.hub.foreign:Net", "config": {"dim": 5, "scale": ' + nest + "}}"):
        config = json.dumps({**json.loads(text), key: "HERE"}).replace('"HERE"', value)
        (folder / "config.json").write_text(config)
        answer(folder)
