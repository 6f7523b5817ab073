"""A network and pictures of the user's own, beside other libraries: one command, one page."""

import json
import textwrap

import pytest
import torch
from PIL import Image

import sdediff as sd
from sdediff.benchmark import Report
from sdediff.benchmark.contenders import installed
from sdediff.cli import main

MODULE = """
import torch
import sdediff as sd


def mine():
    torch.manual_seed(0)
    body = torch.nn.Sequential(
        torch.nn.Conv2d(2, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 1, 3, padding=1)
    )

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = body

        def forward(self, x, t):
            return self.body(torch.cat([x, t.reshape(-1, 1, 1, 1).to(x).expand_as(x)], 1))

    net = Net().eval().requires_grad_(False)
    return sd.ScoreModel(net, sd.VP(), card={"data": {"shape": [1, 8, 8], "range": [-1, 1], "levels": 256}})
"""


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder with a module of the user's and a folder of PNG files, entered."""
    (tmp_path / "pictures").mkdir()
    rows = sd.hub.data("digits", "test").tensor(range=(0.0, 255.0))[:48]
    for number, row in enumerate(rows):
        Image.fromarray(row[0].round().to(torch.uint8).numpy()).save(tmp_path / "pictures" / f"{number:03}.png")
    (tmp_path / "my_pictures.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("contenders", ["torchdiffeq:euler", "diffusers:DDIM,k_diffusion:euler:karras"])
def test_one_command_gives_one_page(pictures, capsys, contenders):
    pytest.importorskip("plotly", reason="the page needs plotly")
    libraries = [name.partition(":")[0] for name in contenders.split(",")]
    missing = [name for name in libraries if not installed(name)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    command = [
        "bench", "my_pictures:mine", "--trust", "my_pictures", "--data", "pictures", "--solvers", "ddim,ancestral",
        "--contenders", contenders, "--calls", "3", "--seeds", "1", "--samples", "20", "--distances", "energy",
        "--likelihoods", "2", "--no-check", "--out", "compared",
    ]  # fmt: skip
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    page = (pictures / "compared" / "report.html").read_text()
    report = Report.load(pictures / "compared")
    assert not report.skipped
    assert {row.name for row in report.rows if not row.real} == {"ddim", "ancestral", *contenders.split(",")}
    assert all(f'"{row.name}"' in page for row in report.rows if not row.real)
    assert report.likelihoods["my_pictures:mine"]["unit"] == "bits/dim"
    assert {sheet["solver"] for sheet in report.sheets} >= {"ddim", contenders.split(",")[0]}
    assert all((pictures / name).is_file() for name in said["files"].values())
