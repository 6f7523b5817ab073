"""Several processes (gloo, by torchrun) train as one with the joined batch; mixed precision runs."""

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

pytestmark = pytest.mark.extras
pytest.importorskip("accelerate")

TABLE = sd.Table.from_betas(torch.linspace(0.01, 0.6, 8, dtype=torch.float64))
SETTINGS = TrainingSettings(updates=50, batch=16, accumulate=2, rate=1e-3, warmup=5, seed=2)


def run(case):
    """The log of one of three systems on the same data, float64, in as many processes as there are."""
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = (x, torch.arange(64) % 3)
    if case == "denoising":
        net = build(lambda: MLP(2, 16, 1, classes=3).double(), 1)
        return train(sd.ScoreModel(net, sd.VP()), data, SETTINGS, Objective(drop=0.2))
    if case == "learned":
        net = build(lambda: MLP(2, 16, 1).double(), 1)
        process = sd.LearnedVP(-6.0, 4.0, width=8, learn_ends=True)
        return train(sd.ScoreModel(net, process, time="lam"), x, SETTINGS, VariationalDiffusion())
    net = build(lambda: MLP(2, 16, 1, variance=True).double(), 1)
    objective = VariationalBound(0.0, 1.0, stop_mean=False, history=LossHistory(8, length=2))
    return train(sd.ScoreModel(net, TABLE), x, SETTINGS, objective)


def _weights(log):
    sde = log.model.sde
    learned = sde.state_dict() if isinstance(sde, torch.nn.Module) else {}
    return {**{f"net.{k}": v for k, v in log.model.net.state_dict().items()}, **learned}


def _port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["denoising", "learned", "history"])
def test_two_processes_are_one_with_the_joined_batch(case, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={_port()}"]
    done = subprocess.run(
        [*launch, "-m", "tests.training.test_processes", case, str(tmp_path / "two.pt")],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    two, one = torch.load(tmp_path / "two.pt", weights_only=True), run(case)
    torch.testing.assert_close(two["losses"], torch.tensor(one.losses, dtype=torch.float64), rtol=1e-10, atol=1e-10)
    for name, value in _weights(one).items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-10)


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
    log = run(sys.argv[1])
    if torch.distributed.get_rank() == 0:
        torch.save({"losses": torch.tensor(log.losses, dtype=torch.float64), **_weights(log)}, sys.argv[2])
