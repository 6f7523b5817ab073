"""Outputs that are no fractions, networks that draw, counts without end, functions and paths that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff import datasets, training

X = torch.linspace(-1, 1, 8).reshape(4, 2)
EXACT = sd.targets.gaussian([0.0, 0.0], std=0.5).model(sd.VP())
SHORT = training.TrainingSettings(updates=1, batch=2, warmup=0)


class Noisy(torch.nn.Module):
    """The exact network with dropout that eval mode does not switch off, or numbers of its own."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.net = kind, EXACT.net

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        output = self.net(x, t)
        if self.kind == "dropout":
            return torch.nn.functional.dropout(output, 0.1, training=True)
        return output + 0.1 * torch.randn_like(output) if self.kind == "normal" else output


def _noisy(kind: str) -> sd.ScoreModel:
    return sd.ScoreModel(Noisy(kind).eval(), EXACT.sde, EXACT.predicts, EXACT.time)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_integer_outputs_are_refused(dtype: torch.dtype) -> None:
    model = sd.ScoreModel(lambda x, t: x.to(dtype), sd.VP())
    for use in (lambda: sd.sample(model, (2, 2), steps=2), lambda: sd.loss(model, X), lambda: model(X, 0.5)):
        with pytest.raises(sd.ModelError, match=f"the network returned {dtype} numbers"):
            use()


@pytest.mark.parametrize("method", ["two_pass", "ode", "vlb", "continuous_vlb"])
def test_a_network_that_draws_has_no_density(method: str) -> None:
    options: dict[str, Any] = {"steps": 4} if "vlb" in method else {"rtol": 0.1, "atol": 0.1}
    before = torch.random.get_rng_state()
    for kind in ("dropout", "normal"):
        found = sd.log_likelihood(_noisy(kind), X, method=method, **options)
        assert all("draws random numbers" in word or word != "ok" for word in found.status)
        assert "4 failed" in repr(found)
    torch.random.set_rng_state(before)
    found = sd.log_likelihood(_noisy("none"), X, method=method, **options)
    assert found.status == ("ok",) * 4
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", ["nodes", "max_steps", "probes", "noises", "steps"])
def test_counts_without_end_are_refused(name: str) -> None:
    method = "continuous_vlb" if name in ("noises", "steps") else "two_pass"
    with pytest.raises(sd.Error, match=f"{name}=1e\\+30: at most .* are possible"):
        sd.LikelihoodSettings(method=method, **{name: 10**30})


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "callback of none": (
        lambda: sd.sample(EXACT, (2, 2), steps=2, callback=lambda: None),
        "callback=.* 1 argument it is called with",
    ),
    "callback 5": (
        lambda: sd.sample(EXACT, (2, 2), steps=2, callback=5),
        "callback=5 is no function",
    ),
    "weighting of two": (
        lambda: sd.loss(EXACT, X, weighting=lambda a, b: 1.0),
        "weighting=.* 1 argument it is called with",
    ),
    "weighting nan": (lambda: sd.loss(EXACT, X, weighting=lambda t: torch.nan), "negative or not finite"),
    "weighting < 0": (lambda: sd.loss(EXACT, X, weighting=lambda t: -t.lam.abs()), "negative or not finite"),
    "objective": (
        lambda: sd.train(EXACT, X, SHORT, objective=5),
        "objective=5 is no function",
    ),
    "report": (lambda: sd.train(EXACT, X, SHORT, report=lambda loss: None), "report=.* 2 arguments it is called with"),
    "validation": (lambda: sd.train(EXACT, X, SHORT, validation=X), r"validation=.*give sd\.training\.Validation"),
    "no weights": (lambda: sd.train(EXACT, X, SHORT), "has no weights: give a network to train"),
    "check cond": (lambda: sd.check(EXACT, cond=[1]), "cond="),
    "check dtype": (lambda: sd.check(EXACT, X, dtype="float"), "dtype="),
    "check device": (lambda: sd.check(EXACT, X, device="nowhere"), "device="),
    "columns": (lambda: datasets.save_grid(torch.zeros(2, 1, 4, 4), "x.png", (-1, 1)), r"columns=\(-1, 1\)"),
    "scale": (lambda: datasets.save_grid(torch.zeros(2, 1, 4, 4), "x.png", scale=1.5), "scale=1.5"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_arguments_of_another_kind_are_refused(what: str) -> None:
    use, match = REFUSED[what]
    with pytest.raises(sd.Error, match=match):
        use()


NOBODY = "~nobody_of_that_name/x"
PATHS: dict[str, Callable[[], Any]] = {
    "save_grid": lambda: datasets.save_grid(torch.zeros(2, 1, 4, 4), NOBODY + ".png"),
    "train": lambda: sd.train(sd.ScoreModel(sd.nets.MLP(2, width=4, blocks=1), sd.VP()), X, SHORT, out=NOBODY),
    "read_config": lambda: training.read_config(NOBODY + ".toml"),
    "recommend": lambda: sd.recommend(EXACT, (2,), calls=2, starts=4, candidates=["ddim"], keep=NOBODY),
    "report": lambda: sd.benchmark.Report.load(NOBODY),
    "bench": lambda: sd.bench(targets=["moons"], solvers=["ddim"], calls=[2], out=NOBODY),
    "from_diffusers": lambda: sd.from_diffusers(NOBODY),
    "read_checkpoint": lambda: sd.bridges.read_checkpoint(NOBODY),
    "kind_of": lambda: sd.bridges.kind_of(NOBODY),
    "save": lambda: sd.save(sd.load("digits-vp"), NOBODY),
    "load": lambda: sd.load(NOBODY),
    "likelihood_job": lambda: sd.likelihood_job(sd.load("digits-vp"), NOBODY, "out"),
    "page": lambda: sd.check(EXACT, torch.randn(100, 2, generator=torch.Generator().manual_seed(0))).plot(NOBODY),
}


@pytest.mark.parametrize("what", PATHS)
def test_paths_of_users_who_are_not_there_are_one_sentence(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sd.Error) as caught:
        PATHS[what]()
    assert "\n" not in str(caught.value)
    assert "nobody_of_that_name" in str(caught.value)
    assert not list(tmp_path.glob("~*"))
