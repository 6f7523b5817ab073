"""Data against the model's card: other levels, another range, another shape, wherever data meet a model."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.cli import main
from sdediff.datasets import DataError, DataSet

QUICK: dict[str, Any] = {"rtol": 1e-1, "atol": 1e-1, "probes": 1}
QUIET: dict[str, Any] = {"progress": False, "check": False, "micro_batch": 16, **QUICK}


@pytest.fixture(scope="module")
def model() -> sd.ScoreModel:
    return sd.load("digits-vp")


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return sd.data("digits")


def _unit(model: sd.ScoreModel) -> sd.ScoreModel:
    """The same network, said to be one of data in [0, 1]."""
    return replace(model, stats=None, card={"data": {"range": [0, 1], "shape": [1, 8, 8]}})


def _consumers(model: sd.ScoreModel, x: torch.Tensor) -> dict[str, Any]:
    """Every function that takes data of a model."""
    return {
        "log_likelihood": lambda: sd.log_likelihood(model, x, **QUICK),
        "path_statistics": lambda: sd.path_statistics(model, x, kappa=2, **QUICK),
        "encode": lambda: sd.encode(model, x, solver="ddim", steps=2),
        "recommend": lambda: sd.recommend(model, data=x, calls=2, candidates=["ddim"], starts=2, check=False),
        "loss": lambda: sd.loss(model, x, generator=torch.Generator().manual_seed(0)),
        "train": lambda: sd.train(copy.deepcopy(model), iter([x]), sd.training.TrainingSettings(1, 2), progress=False),
        "invert": lambda: sd.inverse.invert(model, x, steps=3, iterations=0),
        "image_to_image": lambda: sd.inverse.image_to_image(model, x, 0.5, steps=2),
    }


CONSUMERS = [
    "log_likelihood", "path_statistics", "encode", "recommend", "loss", "train", "invert", "image_to_image",
]  # fmt: skip


@pytest.mark.parametrize("name", CONSUMERS)
def test_what_no_data_of_the_range_have_is_refused(model: sd.ScoreModel, digits: DataSet, name: str) -> None:
    for x, said in (
        (digits.tensor((0, 255), index=range(2)), r"\[7.5, 247.5\].*in \[-1, 1\] by its card.*write -1 \+ 0.0078"),
        (torch.as_tensor(digits.x[:2]).float(), r"\[0, 16\].*levels=17, range=\(0, 16\)\)\.dequantised\("),
        (digits.dequantised(index=range(2))[:, 0], r"(shape|states) \((2, )?8, 8\).*: write"),
    ):
        with pytest.raises(ValueError, match=said):
            _consumers(model, x)[name]()


@pytest.mark.parametrize("name", CONSUMERS)
def test_what_is_doubtful_brings_a_warning(model: sd.ScoreModel, digits: DataSet, name: str) -> None:
    upper, whole = digits.dequantised(range=(0, 1), index=range(50)), digits.dequantised(index=range(3))
    with pytest.warns(sd.DataWarning, match=r"half of the range or less.*\[-1, 1\] by its card.*write -1 \+ 2 \* "):
        _consumers(model, upper)[name]()
    with pytest.warns(sd.DataWarning, match=r"in \[-0.99.*trained on data in \[0, 1\] by its card.*write 0 \+ 0.5 \* "):
        _consumers(_unit(model), whole)[name]()


@pytest.mark.parametrize("name", CONSUMERS)
def test_what_is_right_goes_through(model: sd.ScoreModel, digits: DataSet, name: str) -> None:
    """Dequantised data and levels, a few dark rows, and values a little outside, as samples of the network have."""
    dark = digits.dequantised(range=(-1, -0.5), index=range(49))
    for x in (digits.dequantised(index=range(60)), digits.tensor(index=range(2)), dark, 1.2 * dark[:3]):
        _consumers(model, x)[name]()
    _consumers(_unit(model), digits.dequantised(range=(0, 1), index=range(60)))[name]()


def test_the_values_of_right_data_stay(model: sd.ScoreModel, digits: DataSet) -> None:
    """The same network under a card without data gives the same log p to the bit."""
    x, bare = digits.dequantised(index=range(3)), replace(model, card={})
    assert torch.equal(sd.log_likelihood(model, x, **QUICK).log_prob, sd.log_likelihood(bare, x, **QUICK).log_prob)


def test_without_a_card_the_process_and_the_statistics_speak() -> None:
    sizes = {"vp": (sd.VP(), "eps"), "ve": (sd.VE(), "eps"), "flow": (sd.RectifiedFlow(), "velocity"),
             "edm": (sd.EDM(), "edm")}  # fmt: skip
    for sde, predicts in sizes.values():
        model = sd.ScoreModel(lambda x, t: 0 * x, sde, predicts=predicts)
        near = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
        with pytest.warns(sd.DataWarning, match="of rms (120|121).*(ends in noise of std|left at t_max|sigma_data=1)"):
            sd.log_likelihood(model, 120 / near.square().mean().sqrt() * near, **QUICK)
        sd.log_likelihood(model, near, **QUICK)
    stats = sd.statistics(torch.randn(100, 3, generator=torch.Generator().manual_seed(1)) * 0.1)
    with pytest.warns(sd.DataWarning, match=r"up to .* from the data's mean, whose standard deviation .* is 0\.\d+"):
        sd.log_likelihood(replace(model, stats=stats), torch.full((2, 3), 9.0), **QUICK)


def test_integers_are_refused(model: sd.ScoreModel, digits: DataSet) -> None:
    levels = torch.as_tensor(digits.x[:2])
    for name in ("log_likelihood", "path_statistics"):
        with pytest.raises(TypeError, match=r"uint8, states are floating-point: dequantise integer data"):
            _consumers(model, levels)[name]()
    for given in (levels, digits):
        with pytest.raises(TypeError, match=r"data of type .*: give a floating-point tensor"):
            sd.recommend(model, data=given, calls=2, candidates=["ddim"], starts=2)  # type: ignore[arg-type]


def test_levels_and_range_of_bits_are_the_cards(model: sd.ScoreModel, digits: DataSet) -> None:
    result = sd.log_likelihood(model, digits.dequantised(index=range(2)), **QUICK)
    bits = sd.bits_per_dim(result, levels=17, range=(-1, 1))
    torch.testing.assert_close(bits, -result.log_prob / (64 * np.log(2)) + np.log2(17 / 2))
    for options, said in (({"levels": 256, "range": (-1, 1)}, "has 17 levels by its card: write levels=17"),
                          ({"levels": 17, "range": (0, 16)}, r"takes data in \[-1, 1\] .* write range=\(-1, 1\)"),
                          ({}, "needs levels= and range=")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            sd.bits_per_dim(result, **options)
    for bins, said in (
        (sd.Discrete(256), "discrete: levels=256"),
        (sd.Discrete(17, (0, 1)), r"discrete: range=\(0, 1"),
    ):
        with pytest.raises(ValueError, match=said):
            sd.log_likelihood(model, digits.tensor(index=range(2)), end="noised", discrete=bins, **QUICK)


# Name, values (N, ...) made of the digits' levels k, options, and what is said; None where they are right.
JOBS = {
    "bytes of 17 levels": (lambda k: k, {}, "has 256 levels .* holds values in .0, 16.*levels=17, range=.0, 16."),
    "bytes of 256 levels": (lambda k: k * 15, {}, "give data of 17 levels, or another model"),
    "declared": (lambda k: k, {"levels": 17, "range": (0, 16)}, None),
    "declared by the range": (lambda k: k, {"range": (0, 16)}, None),
    "raw levels": (lambda k: k.astype("f4"), {}, "by its card: write --levels 17 --range 0,16"),
    "raw floats": (lambda k: k.astype("f4") * 15.5, {}, "--range 0,255 for .0, 255. .in Python range=."),
    "in [0, 1]": (lambda k: (k.astype("f4") + 0.5) / 17, {}, "half of the range or less.*--range 0,1 for"),
    "in [0, 1], declared": (lambda k: (k.astype("f4") + 0.5) / 17, {"range": (0, 1)}, None),
    "in [-1, 1]": (lambda k: (k.astype("f4") + 0.5) / 8.5 - 1, {}, None),
    "without its channel": (lambda k: k[:, 0], {"levels": 17}, None),
    "floats without their channel": (lambda k: (k[:, 0].astype("f4") + 0.5) / 8.5 - 1, {}, None),
    "of another shape": (lambda k: k.reshape(-1, 64), {"levels": 17}, r"shape \(64,\), the model takes \(1, 8, 8\)"),
}


@pytest.mark.parametrize("name", JOBS)
def test_files_and_arrays_follow_one_rule(
    model: sd.ScoreModel, digits: DataSet, tmp_path: Path, name: str, capsys: Any
) -> None:
    """As file, array, tensor, and on the command line: the same value, or the same sentence."""
    make, options, said = JOBS[name]
    x = make(np.asarray(digits.x[:50]))
    np.save(tmp_path / "x.npy", x)
    command = ["likelihood", "digits-vp", str(tmp_path / "x.npy"), "--rtol", "0.1", "--atol", "0.1", "--probes", "1",
               "--out", str(tmp_path / "cli")]  # fmt: skip
    for key, value in options.items():
        command += [f"--{key}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    if said is not None:
        for data in (tmp_path / "x.npy", x, torch.as_tensor(x)):
            with pytest.raises(DataError, match=said):
                sd.likelihood_job(model, data, tmp_path / "out", **options, **QUIET)
        assert main(command) == 2
        assert "DATA: " in capsys.readouterr().err
        return
    direct = digits if "levels" in options or options == {"range": (0, 16)} else None
    rows = range(8)
    states = digits.tensor(index=rows) if direct is None else digits.dequantised(index=rows)
    expected = sd.log_likelihood(model, states, micro_batch=8, **QUICK).log_prob.mean().item()
    quiet = {**QUIET, "micro_batch": 8, "limit": 8}
    for at, data in enumerate((tmp_path / "x.npy", x, torch.as_tensor(x))):
        summary = sd.likelihood_job(model, data, tmp_path / str(at), **options, **quiet)
        assert summary.log_prob == pytest.approx(expected, rel=1e-4)
    assert main([*command, "--limit", "8", "--micro-batch", "8"]) == 0


def test_another_range_of_files(model: sd.ScoreModel, digits: DataSet, tmp_path: Path) -> None:
    """[-1, 1] on a network of [0, 1] is refused from 50 rows on; a few values outside are reported alone."""
    with pytest.raises(DataError, match=r"data in \[0, 1\] by its card: declare their own range, --range -1,1"):
        sd.likelihood_job(_unit(model), digits.dequantised(index=range(50)), tmp_path / "no", **QUIET)
    lines: list[str] = []
    wide = 1.3 * digits.dequantised(index=range(50))
    sd.likelihood_job(model, wide, tmp_path / "wide", say=lines.append, **QUIET)
    assert any("values in [-1.3, 1.3], the network was trained on data in [-1, 1]" in line for line in lines), lines


class Unit(torch.nn.Module):
    """The exact eps of N(0, I) under VP, to score what the card is silent about in no time."""

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x * sd.VP().sigma(t.double()).to(x)[:, None, None, None]


def test_a_declared_set_and_a_silent_card(model: sd.ScoreModel, digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 17 levels by its card"):
        sd.likelihood_job(model, DataSet(digits.x[:4], 256, (0, 255)), tmp_path / "set", **QUIET)
    lines: list[str] = []
    bare = sd.ScoreModel(Unit(), sd.VP())
    for x in (digits.x[:50], digits.x[:50].astype("f4") * 15.9):
        sd.likelihood_job(bare, x, tmp_path / str(len(lines)), say=lines.append, **QUIET)
    assert any("256 levels over [0, 255] and holds values in [0, 16]" in line for line in lines)
    assert any("is left at t_max beside noise of std 1" in line for line in lines)


def test_statistics_are_of_the_values_that_the_network_takes(model: sd.ScoreModel, digits: DataSet) -> None:
    with pytest.raises(ValueError, match=r"write sd.statistics\(data.dequantised\(range="):
        sd.statistics(digits)
    right = sd.statistics(digits.dequantised())
    assert replace(model, stats=right).stats is right
    with pytest.raises(sd.ModelError, match=r"means in \[.*, 1.*trained on data in \[-1, 1\] by its card"):
        replace(model, stats=sd.statistics(digits.tensor((0, 16))))
    with pytest.warns(sd.DataWarning, match=r"statistics with means in \[0"):
        replace(model, stats=sd.statistics(digits.dequantised(range=(0, 1))))
    with pytest.raises(sd.ModelError, match=r"statistics of shape \(64,\)"):
        replace(model, stats=sd.statistics(digits.dequantised().flatten(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.recommend(model, data=right, calls=2, candidates=["ddim"], starts=2)


@pytest.mark.parametrize(
    "data", [{"range": [1, -1]}, {"range": 3}, {"levels": 1}, {"levels": "17"}, {"shape": 8}, {"range": [0, "a"]}, [1]]
)
def test_a_card_that_cannot_be_read_is_refused(model: sd.ScoreModel, digits: DataSet, data: Any) -> None:
    with pytest.raises(sd.ModelError, match="the card's"):
        sd.log_likelihood(replace(model, stats=None, card={"data": data}), digits.dequantised(index=range(2)), **QUICK)


def test_a_card_says_whether_data_were_dequantised_by_true_or_false():
    assert sd.load("digits-iddpm").card["data"]["dequantised"] is False
    with pytest.raises(sd.ModelError, match=r"the card's dequantised='no': write true or false"):
        dataclasses.replace(sd.load("digits-vp"), card={"data": {"levels": 17, "dequantised": "no"}})
