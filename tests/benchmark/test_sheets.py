"""Sheets of samples: the same starts under every solver, where samples are pictures."""

import base64
import io
import json

import numpy as np
import pytest

import sdediff as sd
from sdediff.benchmark import Report
from sdediff.benchmark.sheets import NAME, fitted
from sdediff.datasets.pictures import grid_image


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    out = tmp_path_factory.mktemp("sheets") / "out"
    sd.bench(
        ["digits-vp"], ["ddim", "heun"], (2, 5, 7), out=out, samples=20, seeds=1, seed=3, distances=["energy"],
        progress=False, check=False,
    )  # fmt: skip
    return out


def pixels(sheet):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["png"].partition(",")[2]))))


def rgb(sheet):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["png"].partition(",")[2]))).convert("RGB"))


def test_sheets_show_the_first_samples_of_the_seed(pictured):
    sheets = Report.load(pictured).sheets
    found = [(s["task"], s["solver"], s["calls"]) for s in sheets]  # the budgets next to 5, 10 and 20
    assert found == [("digits-vp", solver, calls) for solver in ("ddim", "heun") for calls in (5, 7)]
    x = sd.sample(sd.load("digits-vp"), (16, 1, 8, 8), solver="ddim", calls=5, seed=3)
    shown = next(s for s in sheets if (s["solver"], s["calls"]) == ("ddim", 5))
    assert np.array_equal(pixels(shown), np.asarray(grid_image(x, 8, (-1.0, 1.0), 4)))


def test_the_page_holds_the_sheets(pictured, tmp_path):
    pytest.importorskip("plotly")
    report = Report.load(pictured)
    text = report.page(tmp_path / "report.html").read_text()
    assert all(sheet["png"] in text for sheet in report.sheets)


def test_sheets_without_room_have_fewer_colours_and_then_the_last_are_missing():
    rng = np.random.default_rng(0)
    sheets = []
    for i in range(4):
        buffer = io.BytesIO()
        grid_image(rng.uniform(-1, 1, (16, 3, 16, 16)), 8, (-1.0, 1.0), 2).save(buffer, format="PNG")
        png = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        sheets.append({"task": "t", "solver": f"{i}", "calls": 5, "png": png})
    whole = sum(len(sheet["png"]) for sheet in sheets)
    assert fitted(sheets, whole) == sheets
    reduced = fitted(sheets, whole // 2)
    assert [sheet["solver"] for sheet in reduced] == ["0", "1", "2", "3"]
    assert sum(len(sheet["png"]) for sheet in reduced) <= whole // 2
    gap = np.abs(rgb(reduced[0]).astype(float) - rgb(sheets[0]).astype(float))
    assert gap.mean() < 25
    assert [sheet["solver"] for sheet in fitted(sheets, whole // 20)] in (["0"], ["0", "1"], [])
    damaged = [{"task": "t", "solver": "a", "calls": 5, "png": "data:image/png;base64,AAAA"}]
    assert fitted(damaged, 10) == []


@pytest.mark.parametrize("content", ["[", "{}", '[{"task": 1}]', "[[]]", '"a"'])
def test_damaged_sheets_are_left_out(pictured, content):
    path = pictured / NAME
    whole = path.read_text()
    path.write_text(content)
    try:
        assert Report.load(pictured).sheets == ()
    finally:
        path.write_text(whole)
    assert json.loads(whole)


def test_tables_have_no_sheets(report):
    assert report.sheets == ()
