"""Several processes (gloo, by torchrun) train as one with the joined batch; mixed precision runs."""

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sdediff as sd
from sdediff.nets import MLP
from sdediff.training import (
    LossHistory,
    Objective,
    TrainingSettings,
    VariationalBound,
    VariationalDiffusion,
    build,
    train,
)
from sdediff.training.backend import Sharded

pytestmark = pytest.mark.extras
pytest.importorskip("accelerate")

TABLE = sd.Table.from_betas(torch.linspace(0.01, 0.6, 8, dtype=torch.float64))
SETTINGS = TrainingSettings(updates=50, batch=16, accumulate=2, rate=1e-3, warmup=5, seed=2)


def run(case, out=None, **changes):
    """The log of one of three systems on the same data, float64, in as many processes as there are."""
    settings = dataclasses.replace(SETTINGS, **changes)
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = (x, torch.arange(64) % 3)
    if case == "denoising":
        net = build(lambda: MLP(2, 16, 1, classes=3).double(), 1)
        return train(sd.ScoreModel(net, sd.VP()), data, settings, Objective(drop=0.2), out=out)
    if case == "learned":
        net = build(lambda: MLP(2, 16, 1).double(), 1)
        process = sd.LearnedVP(-6.0, 4.0, width=8, learn_ends=True)
        return train(sd.ScoreModel(net, process, time="lam"), x, settings, VariationalDiffusion(), out=out)
    net = build(lambda: MLP(2, 16, 1, variance=True).double(), 1)
    objective = VariationalBound(0.0, 1.0, stop_mean=False, history=LossHistory(8, length=2))
    return train(sd.ScoreModel(net, TABLE), x, settings, objective, out=out)


def _weights(log):
    sde = log.model.sde
    learned = sde.state_dict() if isinstance(sde, torch.nn.Module) else {}
    return {**{f"net.{k}": v for k, v in log.model.net.state_dict().items()}, **learned}


def _port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _by_two(case, folder, *options, **variables):
    """Losses and weights by two processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={_port()}"]
    done = subprocess.run(
        [*launch, "-m", "tests.training.test_processes", case, str(folder / "two.pt"), *options],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2], env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return torch.load(folder / "two.pt", weights_only=True)


def assert_same(two, one):
    torch.testing.assert_close(two["losses"], torch.tensor(one.losses, dtype=torch.float64), rtol=1e-10, atol=1e-10)
    for name, value in _weights(one).items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["denoising", "learned", "history"])
def test_two_processes_are_one_with_the_joined_batch(case, tmp_path):
    assert_same(_by_two(case, tmp_path), run(case))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["denoising", "learned", "history"])
def test_weights_in_shards_are_those_of_one_process(case, tmp_path):
    """By the setting, and as `accelerate launch --use_fsdp` asks for it."""
    if case == "learned":
        found = _by_two(case, tmp_path, ACCELERATE_USE_FSDP="true")
    else:
        found = _by_two(case, tmp_path, "shard")
    assert found.pop("shards") == 2
    assert_same(found, run(case))


@pytest.mark.slow
def test_one_process_goes_on_from_a_checkpoint_of_shards_and_shards_from_one_of_it(tmp_path):
    whole = run("denoising", schedule="constant")
    _by_two("denoising", tmp_path, "shard", "constant", "updates=20", f"out={tmp_path / 'a'}")
    resumed = run("denoising", tmp_path / "a", schedule="constant")
    assert resumed.first == 20
    found = {"losses": torch.tensor(whole.losses[20:], dtype=torch.float64), **_weights(whole)}
    assert_same(found, resumed)
    run("denoising", tmp_path / "b", updates=20, schedule="constant")
    found = _by_two("denoising", tmp_path, "shard", "constant", f"out={tmp_path / 'b'}")
    assert len(found["losses"]) == 30
    assert_same(
        {**found, "losses": torch.cat([torch.tensor(whole.losses[:20], dtype=torch.float64), found["losses"]])}, whole
    )


def test_shards_of_one_process_are_refused():
    net = build(lambda: MLP(2, 16, 1), 1)
    with pytest.raises(sd.Error, match="this is one: start more by torchrun"):
        train(sd.ScoreModel(net, sd.VP()), torch.zeros(64, 2), TrainingSettings(updates=1, batch=16, shard=True))


def test_half_precision_needs_accelerate_and_trains():
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    net = build(lambda: MLP(2, 16, 1), 1)
    whole = train(sd.ScoreModel(build(lambda: MLP(2, 16, 1), 1), sd.VP()), x, TrainingSettings(updates=20, batch=16))
    half = train(sd.ScoreModel(net, sd.VP()), x, TrainingSettings(updates=20, batch=16, precision="bf16"))
    found, expected = (torch.tensor(log.losses) for log in (half, whole))
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
    assert not torch.equal(found, expected)
    assert all(p.dtype == torch.float32 for p in net.parameters())


if __name__ == "__main__":
    case, path, *options = sys.argv[1:]
    changes = {"shard": "shard" in options, "schedule": "constant" if "constant" in options else SETTINGS.schedule}
    given = dict(option.split("=", 1) for option in options if "=" in option)
    if "updates" in given:
        changes["updates"] = int(given["updates"])
    split = []  # how many parts a weight of the network that is trained has
    prepare = Sharded.prepare

    def watched(self, net, optimiser):
        split.append(next(net.parameters()).device_mesh.size())
        return prepare(self, net, optimiser)

    Sharded.prepare = watched
    log = run(case, given.get("out"), **changes)
    if torch.distributed.get_rank() == 0:
        losses = torch.tensor(log.losses, dtype=torch.float64)
        torch.save({"losses": losses, **_weights(log), **({"shards": split[0]} if split else {})}, path)
    torch.distributed.destroy_process_group()
