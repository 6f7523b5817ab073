"""The command `check`."""

import numpy as np
import pytest
import torch

import sdediff as sd
from tests.cli.output import parsed


def test_check_prints_the_verdict_and_writes_a_picture(run, tmp_path):
    code, out, err = run("check", "digits-vp", "digits", "--plot", tmp_path / "p.png")
    assert (code, err) == (0, "")
    assert "Trained and wired right" in out
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    said = parsed(run("check", "digits-vp", "digits", "--json"))
    report = sd.check(sd.load("digits-vp"), sd.data("digits"))
    assert said["status"] == report.status == "right"
    assert said["gap"]["value"] == pytest.approx(report.gap.value)
    assert parsed(run("check", "digits-vp", "digits:test", "--json"))["gap"] == said["gap"]


def test_a_network_that_does_not_fit_ends_with_1(run):
    code, out, err = run("check", "pictures", "digits")
    assert (code, err) == (1, "")
    assert "Nothing that the network learnt" in out


def test_without_data_the_ends_are_compared(run):
    code, out, _ = run("check", "digits-vp")
    assert code == 0
    assert "without data" in out


def test_conditions_are_labels_files_or_values(run, home, tmp_path):
    torch.manual_seed(0)
    from sdediff.nets import UNet

    net = UNet(1, width=8, multiples=[1], blocks=1, classes=10).eval()
    sd.save(sd.ScoreModel(net, sd.VP()), tmp_path / "labelled", data={"shape": [1, 8, 8], "range": [-1, 1]})
    np.save(tmp_path / "labels.npy", sd.data("digits").labels)
    first = run("check", tmp_path / "labelled", "digits", "--cond", "label=labels", "--json")
    again = run("check", tmp_path / "labelled", "digits", "--cond", f"label={tmp_path / 'labels.npy'}", "--json")
    assert first[0] == again[0] == 1
    assert first[1].partition('"seconds"')[0] == again[1].partition('"seconds"')[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check"], "MODEL"),
        (["check", "digtis-vp", "digits"], "digits-vp"),
        (["check", "digits-vp", "digist"], "DATA"),
        (["check", "digits-vp", "points.npy"], "DATA"),
        (["check", "digits-vp", "digits", "--rows", "3"], "--rows"),
        (["check", "digits-vp", "digits", "--cond", "label"], "--cond"),
        (["check", "points", "points.npy", "--cond", "label=labels"], "--cond"),
        (["check", "digits-vp", "digits", "--model-range", "0,1"], "--model-range"),
        (["check", "digits-vp", "--plot", "p.png"], "--plot"),
    ],
)
def test_bad_input_is_one_line(run, arguments, words):
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_other_commands_say_one_line_of_what_does_not_fit(run, tmp_path):
    base = ("likelihood", "pictures", "digits", "--limit", 50, "--rtol", 0.5, "--atol", 0.5, "--probes", 1, "--json")
    code, _, err = run(*base, "--out", tmp_path / "a")
    lines = [line for line in err.splitlines() if "warning" in line]
    assert code == 0
    assert len(lines) == 1
    assert lines[0].startswith("sdediff: warning: Nothing that the network learnt")
    assert lines[0].endswith("--no-check leaves this out.")
    assert "warning" not in run(*base, "--no-check", "--out", tmp_path / "b")[2]
    a, b = ((tmp_path / name / "likelihood.parquet").read_bytes() for name in "ab")
    assert a == b


def test_a_range_is_given_where_the_card_has_none(run, tmp_path):
    model = sd.load("digits-vp")
    sd.save(sd.ScoreModel(model.net, model.sde), tmp_path / "mine", data={"shape": [1, 8, 8]})
    right, wrong = (
        parsed_or_not(run("check", tmp_path / "mine", "digits", "--model-range", bounds, "--rows", 64, "--json"))
        for bounds in ("-1,1", "0,1")
    )
    assert (right["status"], wrong["right"]) == ("right", False)


def parsed_or_not(said):
    import json

    return json.loads(said[1])


def test_infer_ranks_and_saves_what_is_right(run, home, tmp_path):
    said = run("infer", "digits-vp", "digits", "--to", tmp_path / "found", "--json")
    values = parsed(said)
    assert values["right"] is True
    assert values["trials"][0]["predicts"] == "eps"
    found = sd.load(tmp_path / "found")
    assert (found.sde, found.predicts) == (sd.VP(), "eps")
    assert found.card["data"] == {"range": [-1.0, 1.0], "shape": [1, 8, 8], "levels": 17}
    (home / "nets.py").write_text(
        "import torch\n\ndef zero(x, t):\n    return torch.zeros_like(x)\n\n"
        "word = 3\n\ndef factory():\n    return zero\n"
    )
    code, out, err = run("infer", "nets:zero", "digits", "--to", tmp_path / "none")
    assert (code, err) == (1, "")
    assert "None of the usual wirings is right" in out
    assert not (tmp_path / "none").exists()
    assert run("infer", "nets:word", "digits")[0] == 2
    assert run("infer", "nets:factory", "digits", "--to", tmp_path / "none")[0] == 1
    assert run("infer", "nets:nothing", "digits")[2].startswith("sdediff: NETWORK: ")
