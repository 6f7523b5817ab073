"""Likelihoods by the augmented ODE in batches."""

import pytest
import torch

import sdediff as sd
from tests.likelihood.gaussian_data import PLANE, TIGHT, TargetM, ode, true_prior


@pytest.fixture(scope="module")
def points():
    return TargetM().sample(256, seed=1)


def test_a_shared_step_moves_a_sample_by_its_tolerance_alone(points):
    # A library's step is chosen for the whole micro-batch, so across sizes there is no bitwise equality and no
    # 1e-9 either: what is held here is the tolerance. With a fixed size of 1, equality to the bit (next test).
    m, sde, x = TargetM(), sd.VP(), points[:64]
    options = {**TIGHT, "rtol": 1e-7, "atol": 1e-7}
    one, seven, all_ = (
        ode(m.model(sde), x[:count], **options, micro_batch=k).log_prob for k, count in ((1, 4), (7, 21), (64, 64))
    )
    torch.testing.assert_close(seven[:4], one, rtol=0, atol=1e-5)
    torch.testing.assert_close(all_[:21], seven, rtol=0, atol=1e-5)


def test_one_at_a_time_a_sample_ignores_its_mates_to_the_bit(points):
    m, sde = TargetM(), sd.VP()
    whole = ode(m.model(sde), points[:6], micro_batch=1, seed=2)
    for order in ([5, 2, 0], [2]):
        part = ode(m.model(sde), points[order], micro_batch=1, seed=2, index=order)
        for name in ("log_prob", "latent", "calls", "prior_log_prob"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[order])


def test_every_row_is_scored_once_tail_included(points):
    m, sde = TargetM(), sd.VP()
    found = ode(m.model(sde), points[:11], micro_batch=4, trace="exact", prior=true_prior(m, sde))
    assert (len(found), len(found.status), found.latent.shape) == (11, 11, (11, 2))
    torch.testing.assert_close(found.log_prob, m.log_prob(points[:11], sde, 1e-5), rtol=0, atol=0.05)


def test_calls_are_what_the_network_counts(points):
    m, sde, seen = TargetM(), sd.VP(), []
    model = m.model(sde).map_net(lambda net: lambda x, t: seen.append(len(x)) or net(x, t))
    for options in ({"trace": "exact"}, {"probes": 3}, {"end": "heat", "t0": 1e-3}):
        seen.clear()
        found = ode(model, points[:10], micro_batch=5, **options)
        # One call serves drift and divergence; each of the two micro-batches counts its own.
        assert found.calls[0] + found.calls[5] == len(seen)
        assert set(seen) == {5}


def test_conditions_reach_the_network():
    sde, x = sd.VP(), PLANE.sample(3, seed=1)
    base = PLANE.model(sde)

    def net(x, t, shift=0.0):
        return base.net(x - shift, t)

    model = sd.ScoreModel(net, sde, predicts="score", time="t")
    plain, moved = (ode(model, x, trace="exact", cond=c).log_prob for c in (None, {"shift": 1.0}))
    assert (plain - moved).abs().min() > 1e-3
