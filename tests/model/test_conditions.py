"""Conditions, what a network returns beside its output, ranks of states."""

import torch

import sdediff as sd
from sdediff.model.bound import BoundModel
from sdediff.model.prediction import PARAMETRISATIONS

F64 = torch.float64


def test_conditions_are_bound_to_the_model_and_reach_the_network():
    def net(x, t, label=0, scale=1.0):
        return x * label * scale

    model = sd.ScoreModel(net, sd.VP())
    x = torch.ones(2, 3)
    bound = model.given(label=3)
    assert torch.equal(bound(x, 0.5).raw, 3 * x)
    assert torch.equal(bound.given(scale=2.0)(x, 0.5).raw, 6 * x)
    assert torch.equal(model(x, 0.5).raw, 0 * x)
    labels = torch.tensor([[1.0], [2.0]])
    assert torch.equal(model.given(label=labels)(x, 0.5).raw, labels * x)
    one, other = (sd.sample(model, (2, 3), steps=3, cond={"label": v}) for v in (0.1, 0.5))
    assert not torch.equal(one, other)


def test_what_a_network_returns_beyond_f_is_kept():
    x = torch.ones(2, 3, 4, 4)
    wide = sd.ScoreModel(lambda x, t: torch.cat([2 * x, 5 * x], 1), sd.VP())(x, 0.5)
    assert torch.equal(wide.eps, 2 * x)
    assert torch.equal(wide.extra, 5 * x)
    pair = sd.ScoreModel(lambda x, t: (2 * x, "more"), sd.VP())(x, 0.5)
    assert torch.equal(pair.eps, 2 * x)
    assert pair.extra == ("more",)

    class Output:
        def __init__(self, sample):
            self.sample = sample

    assert torch.equal(sd.ScoreModel(lambda x, t: Output(2 * x), sd.VP())(x, 0.5).eps, 2 * x)
    assert sd.ScoreModel(lambda x, t: x, sd.VP())(x, 0.5).extra is None


def test_a_learned_variance_does_not_disturb_a_run():
    plain = sd.ScoreModel(lambda x, t: torch.tanh(x), sd.VP())
    wide = sd.ScoreModel(lambda x, t: torch.cat([torch.tanh(x), x], 1), sd.VP())
    assert torch.equal(*(sd.sample(m, (2, 1, 4), solver="ancestral", steps=4) for m in (plain, wide)))


def test_states_of_any_rank(normals):
    model = sd.ScoreModel(lambda x, t: torch.tanh(x), sd.VP(), predicts="v")
    flat = normals(2, 24)
    t = torch.tensor([0.3, 0.7], dtype=F64)
    for shape in ((24,), (4, 6), (2, 3, 4), (1, 2, 3, 4)):
        said = model(flat.reshape(2, *shape), t)
        assert torch.equal(said.x0.reshape(2, 24), model(flat, t).x0)


def test_levels_of_a_run_and_plain_times_give_one_prediction(sde, times_inside, normals):
    x, times = normals(2, 3), times_inside(sde, 4).flip(0)
    for predicts in PARAMETRISATIONS:
        model = sd.ScoreModel(lambda x, t: torch.tanh(x + t[:, None]), sde, predicts=predicts)
        row = sd.levels(sde, times)
        ready = BoundModel(model, row[0].evaluation, x)
        for here in row:
            assert torch.equal(ready(x, here).x0, model(x, here).x0)
            torch.testing.assert_close(ready(x, here).x0, model(x, here.time).x0, rtol=1e-10, atol=1e-10)
            # Prepared for two states, asked for one.
            torch.testing.assert_close(ready(x[:1], here).x0, model(x, here).x0[:1], rtol=1e-12, atol=1e-12)
