"""What the command line offers of the options of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.cli import main
from sdediff.nets import MLP


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """command(*options) -> (exit code, JSON or stderr) of `sdediff sample` on a small network with loud outputs."""
    torch.manual_seed(0)
    model = sd.ScoreModel(MLP(2, width=8, blocks=1).eval(), sd.VP(), predicts="x0")
    with torch.no_grad():
        list(model.net.parameters())[-1].fill_(5.0)  # type: ignore[attr-defined]
    sd.save(model, tmp_path / "points", data={"range": [-2, 2], "shape": [2]})
    monkeypatch.chdir(tmp_path)

    def command(*options: str) -> tuple[int, Any]:
        code = main(["sample", "points", "-n", "3", "--json", "--solver", "adams", "--steps", "4", *options])
        said = capsys.readouterr()
        return code, said.err if code else json.loads(said.out)

    return command


def test_options_of_the_command_line(command: Any) -> None:
    plain = command()[1]
    assert plain["guidance"] == []
    assert np.abs(np.load(plain["files"]["npz"])["x"]).max() > 2
    code, clipped = command("--clip", "-1,0.5", "--lower-order-final")
    assert code == 0
    assert clipped["guidance"] == ["Clip(low=-1.0, high=0.5)"]
    assert clipped["solver"].startswith("LowerOrderFinal(solver=Adams(")
    assert np.load(clipped["files"]["npz"])["x"].max() == 0.5
    held = command("--threshold", "0.9")[1]
    assert held["guidance"] == ["Threshold(quantile=0.9, limit=2.0)"]
    assert math.isclose(np.abs(np.load(held["files"]["npz"])["x"]).max(), 2, rel_tol=1e-6)
    assert command("--grid", "time_shift")[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--clip", "1"), "--clip: '1' is not two rising numbers"),
        (("--clip", "1,-1"), "--clip: '1,-1' is not two rising numbers"),
        (("--threshold", "1.5"), "--threshold: threshold(quantile=1.5, limit=2.0): needed are 0 < quantile <= 1"),
        (("--threshold", "0.9", "--clip", "-1,1"), "give one of --threshold and --clip"),
        (("--solver", "ddim", "--lower-order-final"), "--lower-order-final: DDIM(eta=0.0) has no lower order"),
        (("--grid", "betas"), "--grid: unknown grid 'betas': did you mean 'beta'"),
    ],
)
def test_bad_options_end_in_one_line(command: Any, options: tuple[str, ...], said: str) -> None:
    code, err = command(*options)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
