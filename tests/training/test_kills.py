"""A run that is killed goes on to the same weights; damaged checkpoints bring typed errors alone."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import sdediff as sd
from sdediff.nets import MLP
from sdediff.training import TrainingError, TrainingSettings, build, train
from sdediff.training.checkpoints import checkpoints

COMMAND = [
    sys.executable, "-m", "sdediff", "train", "vp", "--updates", "60", "--set", "training.batch=8", "--set",
    "network.width=8", "--set", "training.save_every=5", "--quiet", "--out",
]  # fmt: skip


def weights(out):
    return sd.load(out / "model").net.state_dict()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path):
    where = Path(__file__).parents[2]
    subprocess.run([*COMMAND, str(tmp_path / "whole")], check=True, cwd=where)
    out, kills = tmp_path / "killed", 0
    for wanted in (10, 30):
        process = subprocess.Popen([*COMMAND, str(out)], cwd=where)
        while process.poll() is None and not any(int(p.name[7:]) >= wanted for p in checkpoints(out)):
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    subprocess.run([*COMMAND, str(out)], check=True, cwd=where)
    assert kills >= 1
    one, two = weights(tmp_path / "whole"), weights(out)
    assert all(torch.equal(one[name], two[name]) for name in one)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "killed")]
    assert logs[0] == logs[1]


def test_damage_to_a_checkpoint_is_a_typed_error(tmp_path):
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    settings = TrainingSettings(updates=4, batch=8, save_every=2)

    def run(out, updates):
        model = sd.ScoreModel(build(lambda: MLP(2, 4, 1), 1), sd.VP())
        return train(model, x, TrainingSettings(updates=updates, batch=8, save_every=2), out=out)

    run(tmp_path / "run", settings.updates)
    rng = random.Random(0)
    for number in range(40):
        out = tmp_path / f"damaged{number}"
        shutil.copytree(tmp_path / "run", out)
        newest = checkpoints(out)[-1]
        path = newest / rng.choice(["training.json", "training.safetensors"])
        raw = bytearray(path.read_bytes())
        kind = rng.randrange(4)
        if kind == 0:
            raw = raw[: rng.randrange(len(raw))]
        elif kind == 1:
            raw[rng.randrange(min(len(raw), 400))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            raw = bytearray(b"[" * 50_000)
        else:
            raw = bytearray(rng.randbytes(300))
        path.write_bytes(bytes(raw))
        with pytest.raises(TrainingError, match=r"update-00000004: cannot be read .*the one before"):
            run(out, 5)
        shutil.rmtree(out)
