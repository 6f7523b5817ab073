"""`sdediff import`: what it prints, the folder that it writes, and refusals in one line."""

import json
import sys

import pytest
import torch

import sdediff as sd
from sdediff.cli import main
from tests.bridges.foreign import SongUNet, small, write_edm
from tests.bridges.test_edm import outer
from tests.bridges.test_guided_and_k_diffusion import FLAGS, guided
from tests.bridges.test_score_sde import checkpoint

NETWORK = ["--network", "tests.bridges.foreign:Small"]
VP = ["--setting", "sde=vpsde", "--setting", "continuous=true"]


def run(*words):
    return main(["import", *map(str, words)])


def refused(capsys, *words):
    assert run(*words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_checkpoint_becomes_a_folder(tmp_path, capsys):
    path = checkpoint(tmp_path / "checkpoint_9.pth")
    data = ["--shape", "1,6,6", "--range", "-1,1", "--levels", 17]
    assert run(path, *NETWORK, "--argument", "width=4", *VP, *data, "--to", tmp_path / "made") == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["kind"] == "score_sde"
    assert lines["clock"] == "Clock('t', scale=999)"
    assert lines["predicts"] == "eps"
    assert "--trust tests" in lines["note"] or "averaged" in lines["note"]
    model = sd.load(tmp_path / "made", trust=["tests"])
    assert model.card["data"] == {"levels": 17, "range": [-1.0, 1.0], "shape": [1, 6, 6]}
    assert torch.equal(model.net.out[2].weight, small(1).out[2].weight)
    with pytest.raises(sd.Error, match="trust"):
        sd.load(tmp_path / "made")


def test_kinds_are_known_by_their_files(tmp_path, capsys, monkeypatch):
    flags = [word for key, value in FLAGS.items() for word in ("--setting", f"{key}={value}")]
    assert run(guided(tmp_path), *NETWORK, *flags, "--to", tmp_path / "guided", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["clock"]) == ("guided_diffusion", "index")
    write_edm(tmp_path / "edm.pkl", monkeypatch, {"ema": outer("VEPrecond")}, 4)
    assert run(tmp_path / "edm.pkl", "--network", "tests.bridges.foreign:SongUNet", "--to", tmp_path / "edm") == 0
    assert "-eps" in capsys.readouterr().out
    model = sd.load(tmp_path / "edm", trust=["tests"])
    assert isinstance(model.net.network, SongUNet)
    direct = sd.from_edm(tmp_path / "edm.pkl", SongUNet)
    x = torch.ones(2, 1, 6, 6, dtype=torch.float64)
    assert torch.equal(model(x, 0.5).raw, direct(x, 0.5).raw)


def test_refusals_name_the_flag(tmp_path, capsys):
    path, to = checkpoint(tmp_path / "a.pth"), ["--to", tmp_path / "made"]
    assert "--network: a checkpoint holds no architecture" in refused(capsys, path, *VP, *to)
    assert "write what the network was trained with" in refused(capsys, path, *NETWORK, *to)
    assert "--setting: unknown setting" in refused(capsys, path, *NETWORK, "--setting", "sd=1", *to)
    assert "--setting: 'sde' is not key=value" in refused(capsys, path, *NETWORK, "--setting", "sde", *to)
    assert "--kind: unknown kind" in refused(capsys, path, "--kind", "edn", *NETWORK, *to)
    assert "--shape" in refused(capsys, path, *NETWORK, *VP, "--shape", "0", *to)
    assert "no module" in refused(capsys, path, "--network", "not_there:Net", *VP, *to)
    assert "SOURCE" in refused(capsys, tmp_path / "none.pth", *NETWORK, *VP, *to)
    assert "no folder of diffusers" in refused(capsys, tmp_path, *to)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other.txt").write_text("x")
    assert "--to" in refused(capsys, path, *NETWORK, *VP, "--to", tmp_path / "full")
    assert not (tmp_path / "made").exists()
    assert "not_there" not in sys.modules


def test_hostile_checkpoints_are_refused(tmp_path, capsys):
    (tmp_path / "a.pt").write_bytes(b"cos\nsystem\n(S'touch SHOT'\ntR.")
    assert "write which it is as --kind" in refused(capsys, tmp_path / "a.pt", *NETWORK, "--to", tmp_path / "made")
    assert not (tmp_path / "SHOT").exists()
