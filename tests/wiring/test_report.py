"""The report of a check: as text, as HTML, as a picture, as plain values."""

import json

import pytest
import torch

import sdediff as sd
from tests.wiring.networks import TARGET, data


@pytest.fixture(scope="module")
def report():
    """A network read wrongly."""
    return sd.check(sd.ScoreModel(TARGET.model(sd.VP()).net, sd.VP(), predicts="eps"), data())


def test_text_has_the_verdict_a_row_a_level_and_every_reading(report):
    text = str(report)
    assert report.verdict.split(":")[0] in " ".join(text.split())
    assert len([line for line in text.splitlines() if line.strip()[:2] in ("0.", "1.", "2.", "3.")]) >= 10
    for reading in report.shown:
        assert reading.predicts in text


def test_html_escapes_and_lists(report):
    html = report._repr_html_()
    assert html.count("<tr>") == 11
    assert "predicts=&quot;v&quot;" in html


def test_plain_values_are_json(report):
    values = json.loads(json.dumps(report.to_dict()))
    assert values["status"] == "misread"
    assert values["gap"]["value"] == report.gap.value
    assert len(values["levels"]) == 10
    assert values["right"] is False


def test_a_picture_is_written(report, tmp_path):
    path = report.plot(tmp_path / "check.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(sd.Error, match="nothing to draw"):
        sd.check(TARGET.model(sd.VP())).plot(tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_levels_of_a_table_are_its_training_timesteps():
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000))
    seen = []

    def net(x, t):
        seen.append(t[0].item())
        return torch.zeros_like(x)

    sd.check(sd.ScoreModel(net, table, time="index"), data(), rows=64)
    assert all(value == int(value) for value in seen)
