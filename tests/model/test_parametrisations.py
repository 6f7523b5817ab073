"""What a network says: parametrisations there and back, and their precision."""

import pytest
import torch

import sdediff as sd
from sdediff.model.prediction import PARAMETRISATIONS
from tests.model.truth import edm_output

F64 = torch.float64
SAYS = ("x0", "eps", "score", "v", "velocity")


def truth(here, x0, eps):
    """Every property of the pair (x0, eps) at a level, by its definition."""
    alpha, sigma, *slopes = (
        torch.as_tensor(v, dtype=F64).reshape(-1, 1) for v in (here.alpha, here.sigma, here.alpha_dot, here.sigma_dot)
    )
    return alpha * x0 + sigma * eps, {
        "x0": x0,
        "eps": eps,
        "score": -eps / sigma,
        "v": alpha * eps - sigma * x0,
        "velocity": slopes[0] * x0 + slopes[1] * eps,
    }


# --- round trips --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("predicts", [*SAYS, "edm"])
@pytest.mark.parametrize("batch", [False, True], ids=["float", "tensor"])
def test_every_parametrisation_says_everything(sde, times_inside, normals, predicts, batch):
    # One network output, made from a known pair (x0, eps), must give back all five properties.
    assert set(PARAMETRISATIONS) == {*SAYS, "edm"}
    x0, eps = normals(5, 3), normals(5, 3, seed=1)
    ends = [sde.t_max] if hasattr(sde, "n") else [1e-5, sde.t_min, sde.t_max]
    for time in [*ends, *times_inside(sde, 5).tolist()]:
        t = torch.full((5,), time, dtype=F64) if batch else time
        here = sd.level(sde, t)
        x, known = truth(here, x0, eps)
        raw = edm_output(here, x, x0, 0.6) if predicts == "edm" else known[predicts]
        extra = {"sigma_data": 0.6} if predicts == "edm" else {}
        said = sd.ScoreModel(lambda x, clock, raw=raw: raw, sde, predicts=predicts, time="t", **extra)(x, t)
        # eps from another quantity is a difference over sigma: where sigma is 1e-6 no float64 gives 1e-10.
        tolerance = max(1e-10, 1e-15 / sd.level(sde, time).sigma)
        for name, value in known.items():
            worst = (getattr(said, name) - value).abs().max()
            assert worst <= tolerance * max(1, value.abs().max()), (name, time)
        assert torch.equal(said.x, x)
        assert torch.equal(said.raw, raw)


def test_mix_is_the_combination_it_names(sde, times_inside, normals):
    x, raw = normals(4, 3), normals(4, 3, seed=1)
    for t in (times_inside(sde, 3)[1].item(), times_inside(sde, 4)):
        said = sd.ScoreModel(lambda x, t: raw, sde, predicts="v", time="t")(x, t)
        expected = 0.3 * x + 2 * said.x0 - said.velocity + 0.5 * said.score
        torch.testing.assert_close(said.mix(0.3, x0=2.0, velocity=-1.0, score=0.5), expected, rtol=1e-10, atol=1e-10)


def test_velocity_is_the_flows(sde, times_inside, normals):
    # alpha' x0 + sigma' eps = f x - g^2 score / 2, two ways of writing the probability flow.
    x, raw = normals(4, 3), normals(4, 3, seed=1)
    for t in times_inside(sde, 4).tolist():
        here, said = sd.level(sde, t), sd.ScoreModel(lambda x, t: raw, sde, time="t")(x, t)
        torch.testing.assert_close(said.velocity, here.f * x - here.g2 / 2 * said.score, rtol=1e-9, atol=1e-9)


# --- precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [sd.VP, sd.SubVP, sd.Cosine, sd.RectifiedFlow])
@pytest.mark.parametrize("predicts", ["eps", "score"])
@pytest.mark.parametrize("batch", [False, True], ids=["float", "tensor"])
def test_eps_and_score_keep_their_digits_at_t_1e5_in_float32(make, predicts, batch, normals):
    # Through x0 they would lose 3e-5 to 3e-2 here: sigma is 1e-3 or less.
    sde, x = make(), normals(8, 3, dtype=torch.float32)
    eps = normals(8, 3, seed=1, dtype=torch.float32)
    t = torch.full((8,), 1e-5, dtype=F64) if batch else 1e-5
    sigma = sde.sigma(torch.tensor(1e-5, dtype=F64)).item()
    raw = eps if predicts == "eps" else (-eps.double() / sigma).float()
    said = sd.ScoreModel(lambda x, clock: raw, sde, predicts=predicts)(x, t)
    assert said.eps.dtype == said.score.dtype == torch.float32
    torch.testing.assert_close(said.eps, eps, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(said.score, (-eps.double() / sigma).float(), rtol=1e-6, atol=1e-6 / sigma)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float64_times_never_promote_the_states(sde, times_inside, dtype):
    seen = []

    def net(x, t):
        seen.append((x.dtype, t.dtype, t.shape))
        return 0.3 * x

    x = torch.ones(2, 3, dtype=dtype)
    times = times_inside(sde, 2)
    for predicts in PARAMETRISATIONS:
        model = sd.ScoreModel(net, sde, predicts=predicts)
        for t in (times[0].item(), times, times.float()):
            said = model(x, t)
            for name in SAYS:
                assert getattr(said, name).dtype == dtype
            assert said.mix(1.0, score=0.1).dtype == dtype
    assert set(seen) == {(dtype, dtype, (2,))}
