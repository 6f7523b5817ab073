"""A folder with models and data, and the command line run there."""

import sys

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.cli import main
from sdediff.nets import MLP

PLUGIN = '''
from dataclasses import dataclass
from sdediff.solvers import Solver

@dataclass(frozen=True)
class Own(Solver):
    """Euler, in a user's words."""
    order = 1
    def step(self, model, x, t, s, state, noise):
        return x + (s.time - t.time) * model(x, t).velocity, None

class Needy(Own):
    def __init__(self, must): pass

process = __import__("sdediff").VP
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with two small models, data for them, and a user's solver."""
    home = tmp_path_factory.mktemp("home with spaces and \u00e9")
    torch.manual_seed(0)
    for name, shape, data in (("pictures", [1, 8, 8], {"name": "digits", "levels": 17}), ("points", [2], {})):
        model = sd.ScoreModel(MLP(int(np.prod(shape)), width=8, blocks=1).eval(), sd.VP())
        sd.save(model, home / name, data={**data, "range": [-1, 1], "shape": shape})
    bare = sd.ScoreModel(MLP(2, width=8, blocks=1).eval(), sd.VP())
    sd.save(bare, home / "bare")
    rows = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    np.save(home / "points.npy", rows)
    np.save(home / "bytes.npy", np.arange(24, dtype=np.uint8).reshape(12, 2))
    np.save(home / "nan.npy", np.where(np.arange(30)[:, None] == 7, np.nan, rows))
    np.save(home / "wide.npy", np.zeros((5, 3), np.float32))
    (home / "empty.npy").write_bytes(b"")
    (home / "broken.npz").write_bytes(b"PK\x03\x04 not an archive")
    (home / "plugin.py").write_text(PLUGIN)
    (home / "torn.py").write_text("def (")
    return home


@pytest.fixture
def run(home, monkeypatch, capsys):
    """run(*arguments) in that folder -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        code = main([str(a) for a in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
