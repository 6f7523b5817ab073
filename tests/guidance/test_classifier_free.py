"""Classifier-free guidance: golden values, one call for two predictions, rescaling, intervals, refusals."""

from __future__ import annotations

import pytest
import torch

import sdediff as sd
from sdediff import guidance
from tests.guidance.mixtures import F64, LEVEL, Labelled, at_level, labelled


def _pair_model(x0: dict[int, list[float]]) -> sd.ScoreModel:
    """A network whose x0 is a constant of the label."""
    values = {label: torch.tensor([row], dtype=F64) for label, row in x0.items()}

    def net(x: torch.Tensor, clock: torch.Tensor, label: int = 0) -> torch.Tensor:
        return values[label].expand(len(x), -1).clone()

    return sd.ScoreModel(net, sd.VP(), predicts="x0")


@pytest.mark.parametrize(("scale", "score"), [(1, 1.29668049793), (2, 2.50482601449), (3, 3.71297153106)])
def test_scales_of_the_mixture(scale: float, score: float) -> None:
    model = guidance.classifier_free(labelled(), scale).given(label=1)
    prediction = model(at_level(), LEVEL)
    assert prediction.score.item() == pytest.approx(score, abs=1e-9)
    if scale == 3:
        assert prediction.x0.item() == pytest.approx(2.54583718898, abs=1e-9)


def test_the_weight_is_the_scale_less_one() -> None:
    a, b = guidance.classifier_free(labelled(), 3), guidance.classifier_free(labelled(), weight=2)
    assert torch.equal(a.given(label=1)(at_level(), LEVEL).raw, b.given(label=1)(at_level(), LEVEL).raw)


def test_a_negative_condition_takes_the_place_of_none() -> None:
    model = guidance.classifier_free(labelled(), 3, negative={"label": 0}).given(label=1)
    assert model(at_level(), LEVEL).score.item() == pytest.approx(5.27664597502, abs=1e-9)


def test_the_unconditional_and_the_other_class() -> None:
    model = labelled()
    assert model(at_level(), LEVEL).score.item() == pytest.approx(0.0885349813596, abs=1e-9)
    assert model.given(label=0)(at_level(), LEVEL).score.item() == pytest.approx(-0.693302240624, abs=1e-9)


@pytest.mark.parametrize("label", [1, torch.tensor([1, 0, 1])])
def test_both_predictions_are_rows_of_one_call(label: object) -> None:
    model = guidance.classifier_free(labelled(), 2.5).given(label=label)
    x = torch.tensor([[0.7], [-0.3], [1.1]], dtype=F64)
    options = {"x": x, "solver": "ddim", "steps": 5}
    model.net.rows.clear()
    joined = sd.sample(model, **options, full=True)
    assert model.net.rows == [6] * 6
    assert joined.calls == 6

    mute = Labelled()
    mute.null_conditions = None
    apart = guidance.classifier_free(sd.ScoreModel(mute, model.sde, predicts="v"), 2.5, negative={"label": 2})
    # This network does not say what it takes for no class; numbers are then left as they are.
    two = sd.sample(apart.given(label=label), **options)
    assert mute.rows == ([3] * 12 if isinstance(label, int) else [6] * 6)
    torch.testing.assert_close(two, joined.x, rtol=1e-12, atol=1e-12)


def test_other_conditions_go_along_with_their_rows() -> None:
    def net(
        x: torch.Tensor, clock: torch.Tensor, label: torch.Tensor, shift: torch.Tensor, gain: float
    ) -> torch.Tensor:
        assert len(label) == len(shift) == len(x)
        return gain * label[:, None] + shift

    model = sd.ScoreModel(net, sd.VP(), predicts="x0")
    cond = {"label": torch.tensor([1.0, 2.0]).double(), "shift": torch.tensor([[10.0], [20.0]]).double()}
    model = sd.ScoreModel(model.net, model.sde, predicts="x0", per_sample=("label",)).given(**cond, gain=1.0)
    guided = guidance.classifier_free(model, 3.0, negative={"label": 0.0})
    x0 = sd.sample(guided, (2, 1), solver="ddim", steps=2, dtype=F64)
    torch.testing.assert_close(x0, torch.tensor([[13.0], [26.0]]).double())


def test_the_interval_is_of_sigma_over_alpha_and_outside_one_call_is_made() -> None:
    model = guidance.classifier_free(labelled(), 3, interval=(0.5, 2.0)).given(label=torch.tensor([1]))
    plain = labelled().given(label=1)
    run = sd.sample(model, (1, 1), solver="ddim", steps=9, dtype=F64, full=True)
    levels = [sd.level(model.sde, t) for t in run.times.tolist()]
    inside = [0.5 <= t.sigma / t.alpha <= 2 for t in levels]
    assert 1 < sum(inside) < len(inside)
    assert model.net.rows == [1 + at for at in inside]
    times = torch.tensor([t.time for t in levels])
    x = torch.linspace(-1, 1, len(levels), dtype=F64)[:, None]
    full = guidance.classifier_free(labelled(), 3).given(label=1)
    expected = torch.where(torch.tensor(inside)[:, None], full(x, times).x0, plain(x, times).x0)
    torch.testing.assert_close(model.given(label=1)(x, times).x0, expected)


@pytest.mark.parametrize(("share", "x0"), [(0.7, (2.38, 2.72)), (1.0, (2.8, 3.2))])
def test_rescaling_on_x0(share: float, x0: tuple[float, float]) -> None:
    """Dg (phi std Dc/std Dg + 1 - phi) for D = (.2, -.4), Dc = (.5, .1), w = 4, deviations .2 and .1 of Dc and Dg."""
    model = guidance.classifier_free(
        _pair_model({0: [0.2, -0.4], 1: [0.5, 0.1]}), 4, negative={"label": 0}, rescale=share, space="x0"
    )
    found = model.given(label=1)(torch.ones(1, 2, dtype=F64), 0.5).x0
    torch.testing.assert_close(found, torch.tensor([x0], dtype=F64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("space", ["eps", "v", "velocity", "score"])
def test_rescaling_differs_by_space_and_keeps_its_deviation(space: str) -> None:
    pair = _pair_model({0: [0.2, -0.4], 1: [0.5, 0.1]})
    x, t = torch.tensor([[1.0, -0.7]], dtype=F64), 0.4
    given = pair.given(label=1)(x, t)
    model = guidance.classifier_free(pair, 4, negative={"label": 0}, rescale=1.0, space=space).given(label=1)
    found = model(x, t)
    assert getattr(found, space).std().item() == pytest.approx(getattr(given, space).std().item(), rel=1e-9)
    on_x0 = guidance.classifier_free(pair, 4, negative={"label": 0}, rescale=1.0, space="x0").given(label=1)
    assert (found.x0 - on_x0(x, t).x0).abs().max() > 1e-3


def test_rescaling_of_a_constant_leaves_it() -> None:
    pair = _pair_model({0: [0.2, 0.2], 1: [0.5, 0.5]})
    model = guidance.classifier_free(pair, 4, negative={"label": 0}, rescale=0.7, space="x0").given(label=1)
    found = model(torch.ones(1, 2, dtype=F64), 0.5).x0
    torch.testing.assert_close(found, torch.full((1, 2), 1.4, dtype=F64))


def test_learned_variances_are_the_conditional_ones() -> None:
    def net(x: torch.Tensor, clock: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = label[:, None].to(x).expand_as(x)
        return rows, 7 * rows

    model = sd.ScoreModel(net, sd.VP(), predicts="x0").given(label=torch.tensor([1, 1]))
    guided = guidance.classifier_free(model, 3.0, negative={"label": 0})
    states = list(sd.iterate(guided, (2, 3), solver="ancestral", steps=3))
    assert torch.equal(states[1].prediction.extra[0], torch.full((2, 3), 7.0))
    assert torch.equal(states[1].prediction.x0, torch.full((2, 3), 3.0))


def test_what_cannot_be_guided_is_refused() -> None:
    net = sd.ScoreModel(lambda x, t, label=0: x, sd.VP())
    with pytest.raises(sd.ModelError, match="needs to know what stands for no condition"):
        guidance.classifier_free(net, 2.0)
    model = guidance.classifier_free(labelled(), 2.0)
    with pytest.raises(sd.ModelError, match="'label' was not given: write cond="):
        sd.sample(model, (2, 1), steps=2)
    for options, message in (
        ({}, "takes scale or weight"),
        ({"scale": 2, "weight": 1}, "takes scale or weight"),
        ({"scale": 2, "rescale": 0.5}, "belong together"),
        ({"scale": 2, "rescale": 1.5, "space": "v"}, r"a number in \[0, 1\]"),
        ({"scale": 2, "rescale": 0.5, "space": "x"}, "space"),
        ({"scale": 2, "interval": (2, 1)}, "low, high"),
        ({"scale": 2, "negative": 4}, "dictionary of conditions"),
    ):
        with pytest.raises(sd.Error, match=message):
            guidance.classifier_free(labelled(), **options)
