"""At the border of the likelihoods: conditions of every kind, and arguments that make no sense."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd

F64 = torch.float64
X = torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=F64)
SETTINGS: dict[str, dict[str, Any]] = {
    "two_pass": {"trace": "exact", "rtol": 1e-4, "atol": 1e-4},
    "frozen": {"trace": "exact", "rtol": 1e-4, "atol": 1e-4, "frozen": True},
    "ode": {"method": "ode", "trace": "exact", "rtol": 1e-8, "atol": 1e-8},
    "vlb": {"method": "vlb", "steps": 6},
}


def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return 0.1 * x


def labelled(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return 0.1 * (x - y.reshape(-1, 1).to(x))


def nested(x: torch.Tensor, t: torch.Tensor, a: dict[str, torch.Tensor]) -> torch.Tensor:
    return labelled(x, t, a["y"])


def moved(x: torch.Tensor, t: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return 0.1 * (x - w.mean())


def model_of(net: Any, **facts: Any) -> sd.ScoreModel:
    return sd.ScoreModel(net, sd.VP(), **facts)


COLUMN = Y[:, None]
WAYS: dict[str, tuple[sd.ScoreModel, dict[str, Any] | None]] = {
    "column": (model_of(labelled), {"y": COLUMN}),
    "array": (model_of(labelled), {"y": COLUMN.numpy()}),
    "list": (model_of(labelled), {"y": COLUMN.tolist()}),
    "nested": (model_of(nested), {"a": {"y": COLUMN}}),
    "vector": (model_of(labelled, per_sample=("y",)), {"y": Y}),
    "bound": (model_of(labelled).given(y=COLUMN), None),
    "bound, replaced": (model_of(labelled).given(y=COLUMN + 9), {"y": COLUMN}),
}


@pytest.mark.parametrize("method", SETTINGS)
@pytest.mark.parametrize("way", WAYS)
def test_conditions_go_with_their_samples(way: str, method: str) -> None:
    model, cond = WAYS[way]
    found = sd.log_likelihood(model, X, cond=cond, micro_batch=3, **SETTINGS[method]).log_prob
    for i in range(4):
        one = model_of(labelled).given(y=Y[i : i + 1, None])
        alone = sd.log_likelihood(one, X[i : i + 1], index=i, **SETTINGS[method]).log_prob
        torch.testing.assert_close(found[i : i + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", SETTINGS)
def test_a_condition_that_is_shared_is_not_cut(method: str) -> None:
    model = model_of(moved, shared=("w",))
    once = sd.log_likelihood(model_of(moved).given(w=Y.mean()[None, None]), X, **SETTINGS[method]).log_prob
    for size in (1, 2, 256):
        found = sd.log_likelihood(model, X, cond={"w": Y}, micro_batch=size, **SETTINGS[method]).log_prob
        torch.testing.assert_close(found, once, rtol=0, atol=1e-6)


def test_a_vector_that_may_be_either_is_refused() -> None:
    with pytest.raises(sd.Error, match="one each or one for all"):
        sd.log_likelihood(model_of(labelled), X, cond={"y": Y})


@pytest.mark.parametrize("method", SETTINGS)
def test_samples_with_log_prob_and_statistics_take_them_too(method: str) -> None:
    if method not in ("two_pass", "frozen"):
        settings = sd.LikelihoodSettings(**SETTINGS[method])
        with pytest.raises(sd.Error, match="method"):
            sd.path_statistics(model_of(net), X, settings=settings)
        return
    settings = sd.LikelihoodSettings(**SETTINGS[method])
    model = model_of(labelled)
    x, _ = sd.sample_with_log_prob(model, (4, 2), cond={"y": COLUMN}, micro_batch=3, settings=settings)
    first, _ = sd.sample_with_log_prob(model, (1, 2), cond={"y": COLUMN[3:]}, index=3, settings=settings)
    torch.testing.assert_close(x[3:], first, rtol=0, atol=1e-6)
    columns = sd.path_statistics(model, X, kappa=3, cond={"y": COLUMN.numpy()}, micro_batch=3, settings=settings)
    alone = sd.path_statistics(model, X[3:], kappa=3, cond={"y": COLUMN[3:]}, index=3, settings=settings)
    torch.testing.assert_close(columns.p_value[3:], alone.p_value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", SETTINGS)
def test_a_network_that_is_never_finite_gives_nan_and_says_where(method: str) -> None:
    model = model_of(lambda x, t: x * math.nan)
    found = sd.log_likelihood(model, X, **SETTINGS[method])
    assert bool(found.log_prob.isnan().all())
    assert all("not finite at t=" in word for word in found.status)
    if method in ("two_pass", "frozen"):
        settings = sd.LikelihoodSettings(**SETTINGS[method])
        _, drawn = sd.sample_with_log_prob(model, (4, 2), settings=settings)
        assert bool(drawn.log_prob.isnan().all())
        assert bool(sd.path_statistics(model, X, kappa=3, settings=settings).p_value.isnan().all())


WHOLE = [{"probes": v} for v in (["a", "b"], 2.5, True, 0)] + [
    {"nodes": "a"}, {"nodes": 2.5}, {"max_steps": 2.5}, {"max_steps": "a"},
    {"method": "vlb", "steps": [1, 2]}, {"method": "vlb", "noises": 1.5},
]  # fmt: skip
REALS = [{"rtol": "a"}, {"atol": torch.ones(2)}, {"t0": "a"}, {"t0": torch.ones(2)}, {"rtol": math.nan}]
FLAGS = [{"frozen": "a"}, {"autograd": "a"}, {"method": "vlb", "fresh": "no"}]
NAMES = [{"method": torch.ones(2)}, {"preset": 3}, {"trace": ["exact"]}, {"prior": {}}]
OTHERS = [
    {"settings": {}}, {"settings": "a"}, {"micro_batch": "a"}, {"micro_batch": 2.5}, {"micro_batch": 0},
    {"autoencoder": 1.0}, {"autoencoder": [1.0, 2.0]}, {"autoencoder": torch.full((4,), math.nan)},
    {"autoencoder": torch.ones(4, dtype=torch.complex64)}, {"cond": 3}, {"cond": [1]},
    {"dtype": "float32"}, {"dtype": torch.int32}, {"device": "zzz"},
]  # fmt: skip


@pytest.mark.parametrize("options", [*WHOLE, *REALS, *FLAGS, *NAMES, *OTHERS], ids=lambda o: f"{o!r:.40}")
def test_senseless_settings_are_refused_in_a_sentence(options: dict[str, Any]) -> None:
    with pytest.raises(sd.Error) as caught:
        sd.log_likelihood(model_of(net), X, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "x", [X.to_sparse(), X.to("meta"), X.numpy(), X.tolist(), X.long(), X[0], X * math.nan, None, "x", X[:0]]
)
@pytest.mark.parametrize("use", [sd.log_likelihood, sd.path_statistics])
def test_senseless_states_are_refused_in_a_sentence(use: Callable[..., Any], x: Any) -> None:
    with pytest.raises(sd.Error) as caught:
        use(model_of(net), x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [2, "ab", (2.5, 3), (4,), (0, 2), torch.ones(2)])
def test_senseless_shapes_are_refused_in_a_sentence(shape: Any) -> None:
    with pytest.raises(sd.Error):
        sd.sample_with_log_prob(model_of(net), shape)


def test_samples_with_log_prob_have_the_shape_of_the_card() -> None:
    with pytest.raises(sd.Error, match=r"write shape=\(2, 1, 8, 8\)"):
        sd.sample_with_log_prob(sd.load("digits-vp"), (2, 1, 16, 16))


@pytest.mark.parametrize("model", [torch.nn.Linear(2, 2), net, None, 3])
def test_something_else_where_a_model_belongs(model: Any) -> None:
    for use in (
        lambda: sd.log_likelihood(model, X), lambda: sd.path_statistics(model, X),
        lambda: sd.sample_with_log_prob(model, (2, 2)),
    ):  # fmt: skip
        with pytest.raises(sd.Error, match="needed is a ScoreModel"):
            use()


def test_statistics_take_a_prior_by_name() -> None:
    settings = sd.LikelihoodSettings(prior=lambda x: -x.square().flatten(1).sum(1))
    with pytest.raises(sd.Error, match="prior by name"):
        sd.path_statistics(model_of(net), X, settings=settings)


@pytest.mark.parametrize(
    "arguments",
    [
        {"result": [1.0]}, {"result": np.ones(2)}, {"result": None}, {"dims": 0}, {"dims": -3}, {"dims": "a"},
        {"dims": 2.0}, {"levels": 256.5}, {"levels": "a"}, {"range": (-1, math.inf)}, {"range": 3}, {"range": "ab"},
        {"range": (1, -1)}, {"mapping": "zz"}, {"dims": None}, {"range": torch.float32}, {"levels": None},
    ],
    ids=lambda o: f"{o!r:.40}",
)  # fmt: skip
def test_senseless_bits_are_refused_in_a_sentence(arguments: dict[str, Any]) -> None:
    given: dict[str, Any] = {"result": torch.zeros(2), "dims": 4, "levels": 256, "range": (-1, 1), **arguments}
    result = given.pop("result")
    with pytest.raises(sd.Error):
        sd.bits_per_dim(result, **given)


def test_bits_of_a_likelihood_take_nothing_that_it_has() -> None:
    found = sd.log_likelihood(model_of(net), X, trace="exact", rtol=1e-2, atol=1e-2)
    with pytest.raises(sd.Error, match="has its own"):
        sd.bits_per_dim(found, levels=256, range=(-1, 1), dims=99)
    mass = found.with_(mass=True)
    with pytest.raises(sd.Error, match="rising range"):
        sd.bits_per_dim(mass, levels=256, range=(1, -1))
    torch.testing.assert_close(sd.bits_per_dim(mass), -found.log_prob / (2 * math.log(2)))
