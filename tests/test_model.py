"""What a network says: parametrisations, clocks, conditions, rescheduling, precision and refusals."""

import math

import pytest
import torch
from torch import nn

import sdediff as sd
from sdediff.model.score_model.prediction import PARAMETRISATIONS

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


def edm_output(here, x, x0, sd_):
    """Karras et al. 2022, table 1, on x/alpha: the F that says x0, (x0 - c_skip y) / c_out."""
    alpha, sigma = (torch.as_tensor(v, dtype=F64).reshape(-1, 1) for v in (here.alpha, here.sigma))
    s, y = sigma / alpha, x / alpha
    return (x0 - sd_**2 / (s**2 + sd_**2) * y) / (s * sd_ / torch.sqrt(s**2 + sd_**2))


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
        said = sd.ScoreModel(lambda x, clock, raw=raw: raw, sde, predicts=predicts, sigma_data=0.6, time="t")(x, t)
        # eps from another quantity is a difference over sigma: where sigma is 1e-6 no float64 gives 1e-10.
        tolerance = max(1e-10, 1e-15 / sd.level(sde, time).sigma)
        for name, value in known.items():
            worst = (getattr(said, name) - value).abs().max()
            assert worst <= tolerance * max(1, value.abs().max()), (name, time)
        assert torch.equal(said.x, x)
        assert said.raw is raw


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


# --- EDM's preconditioning ----------------------------------------------------------------------------------------

EDM_TABLE = [
    (0.002, 0.999984000256, 0.00199998400019, 1.99998400019, -1.55365202461, 250004),
    (0.5, 0.5, 0.353553390593, 1.41421356237, -0.17328679514, 8),
    (1.0, 0.2, 0.4472135955, 0.894427191, 0.0, 5),
    (80.0, 3.90609741807e-5, 0.499990234661, 0.0124997558665, 1.09550665867, 4.00015625),
]


@pytest.mark.parametrize(("sigma", "skip", "out", "into", "noise", "weight"), EDM_TABLE)
@pytest.mark.parametrize("batch", [False, True], ids=["float", "tensor"])
def test_edms_preconditioning(sigma, skip, out, into, noise, weight, batch):
    seen = []

    def net(x, clock):
        seen.append((x, clock))
        return torch.full_like(x, 3.0)

    model = sd.ScoreModel(net, sd.EDM(), predicts="edm", sigma_data=0.5)
    x = torch.tensor([[2.0]], dtype=F64)
    said = model(x, torch.tensor([sigma], dtype=F64) if batch else sigma)
    assert seen[0][0].item() == pytest.approx(into * 2, rel=1e-10)
    assert seen[0][1].item() == pytest.approx(noise, rel=1e-10, abs=1e-14)
    assert said.x0.item() == pytest.approx(skip * 2 + out * 3, rel=1e-9)
    # The loss weight that belongs to the pair: 1 / c_out^2.
    assert 1 / float(said.pair("x0")[1]) ** 2 == pytest.approx(weight, rel=1e-9)


def test_edms_preconditioning_acts_on_x_over_alpha():
    # On a process with alpha < 1 the network sees c_in x/alpha at s = sigma/alpha.
    seen, sde = [], sd.VP()
    model = sd.ScoreModel(lambda x, c: seen.append((x, c)) or x, sde, predicts="edm", sigma_data=0.5)
    t, x = 0.37, torch.tensor([[1.3, -0.2]], dtype=F64)
    here = sd.level(sde, t)
    s = here.sigma / here.alpha
    root = math.sqrt(s**2 + 0.25)
    said = model(x, t)
    torch.testing.assert_close(seen[0][0], x / here.alpha / root, rtol=1e-12, atol=0)
    assert seen[0][1].item() == pytest.approx(math.log(s) / 4, rel=1e-12)
    expected = 0.25 / root**2 * x / here.alpha + s * 0.5 / root * (x / here.alpha / root)
    torch.testing.assert_close(said.x0, expected, rtol=1e-12, atol=0)


def test_karras_vp_and_ve_preconditioning_are_eps_networks():
    # VPPrecond: D = y - s F(y / sqrt(s^2 + 1), 999 sigma^-1(s)) on y = x/alpha; VEPrecond: D = x + s F(x, ln(s/2)).
    def net(x, clock):
        return torch.sin(x) + clock[:, None] / 1000

    x, t = torch.tensor([[0.7, -1.1]], dtype=F64), 0.6
    vp = sd.level(sd.VP(), t)
    said = sd.ScoreModel(net, sd.VP(), time=lambda here: 999 * here.t)(x, t)
    y, s = x / vp.alpha, vp.kappa
    torch.testing.assert_close(said.x0, y - s * net(y / math.sqrt(s**2 + 1), torch.tensor([999 * t], dtype=F64)))
    ve = sd.level(sd.VE(), t)
    said = sd.ScoreModel(lambda x, c: -net(x, c), sd.VE(), time=lambda here: math.log(here.sigma / 2))(x, t)
    torch.testing.assert_close(said.x0, x + ve.sigma * net(x, torch.tensor([math.log(ve.sigma / 2)], dtype=F64)))


# --- clocks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "reading"),
    [
        ("t", lambda here: here.t),
        (None, lambda here: here.t),
        ("lam", lambda here: math.log(here.alpha / here.sigma)),
        ("log_snr", lambda here: math.log(here.alpha**2 / here.sigma**2)),
        ("sigma", lambda here: here.sigma / here.alpha),
        ("c_noise", lambda here: math.log(here.sigma / here.alpha) / 4),
        (lambda here: 999 * here.t, lambda here: 999 * here.t),
    ],
)
def test_clocks_read_what_they_are_called(sde, times_inside, time, reading):
    read = []
    model = sd.ScoreModel(lambda x, t: read.append(t) or x, sde, time=time)
    x, times = torch.ones(3, 2, dtype=F64), times_inside(sde, 3)
    expected = torch.tensor([reading(sd.level(sde, t)) for t in times.tolist()], dtype=F64)
    model(x, times)
    torch.testing.assert_close(read.pop(), expected, rtol=1e-9, atol=1e-9)
    model(x, times[1].item())
    torch.testing.assert_close(read.pop(), expected[1].expand(3), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("offset", "first"), [(1, 0.0), (0, 1.0)])
def test_a_ddpm_networks_clock_starts_at_zero(offset, first):
    # Knots are t = 1..N, DDPM's networks know them as 0..N-1: off by one is the classic mistake.
    betas, read = torch.linspace(1e-4, 0.02, 10, dtype=F64), []
    model = sd.ScoreModel(
        lambda x, t: read.append(t[0].item()) or 0 * x, sd.Table.from_betas(betas), time="index", offset=offset
    )
    said = model(torch.ones(1, 1, dtype=F64), 1.0)
    assert read == [first]
    assert said.x0.item() == pytest.approx(1 / math.sqrt(1 - 1e-4), rel=1e-12)  # alpha_bar of the first knot
    sd.sample(model, (1, 1), solver="ddim", grid="knots", dtype=F64)
    assert read[1:] == [first + i for i in range(9, -1, -1)]


def test_time_indices_of_a_whole_number_arrive_whole_in_float32():
    table, read = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64)), []
    model = sd.ScoreModel(lambda x, t: read.append(t[0].item()) or 0 * x, table, time="index")
    sd.sample(model, (1, 1), solver="ddim", steps=50)
    assert all(v == int(v) for v in read)
    half = torch.ones(1, 1, dtype=torch.float16)
    read.clear()
    model(half, 1000.0)  # float16 would round 999 and other odd numbers past 2048 alike; clocks stay float32
    assert read == [999.0]


# --- conditions, extras, copies -----------------------------------------------------------------------------------


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
        ready = model.on(row, x)
        for here in row:
            assert torch.equal(ready(x, here).x0, model(x, here).x0)
            torch.testing.assert_close(ready(x, here).x0, model(x, here.t).x0, rtol=1e-10, atol=1e-10)
            # Prepared for two states, asked for one.
            torch.testing.assert_close(ready(x[:1], here).x0, model(x, here).x0[:1], rtol=1e-12, atol=1e-12)


# --- reschedule ---------------------------------------------------------------------------------------------------


def exact_score(sde, mean, var):
    """The exact score network of N(mean, var) data on a process; var per dimension."""

    def net(x, t):
        alpha, sigma = (v[:, None] for v in sde.marginal(t.double()))
        return (-(x - alpha * mean) / (alpha**2 * var + sigma**2)).to(x)

    return net


MEAN, VAR = torch.tensor([0.5, -1.0], dtype=F64), torch.tensor([0.3, 2.0], dtype=F64)


def outputs(sde):
    """Every parametrisation of the exact network on a process, as models."""
    score = sd.ScoreModel(exact_score(sde, MEAN, VAR), sde, predicts="score")
    for predicts in PARAMETRISATIONS:

        def net(x, t, predicts=predicts):
            if predicts != "edm":
                return getattr(score(x, t), predicts)
            here = sd.level(sde, t)
            w = torch.sqrt(here.alpha**2 + here.sigma**2)[:, None]
            x = x * w  # back from the input that the model scaled
            return edm_output(here, x, score(x, t).x0, 1.0)

        yield sd.ScoreModel(net, sde, predicts=predicts, time="t")


@pytest.mark.parametrize("target", ["ve", "edm", "flow", "cosine", "vp_long", "table_sigmas"])
def test_a_network_trained_on_vp_is_exact_on_other_processes(processes, target, normals):
    sde, source = processes[target], sd.VP()
    times = sde.t_of_lam(source.lam(torch.linspace(0.05, 0.95, 7, dtype=F64))).tolist()
    times = [t for t in times if sde.t_min < t < sde.t_max]
    assert len(times) >= 3
    x = normals(3, 2)
    for model in outputs(source):
        moved = sd.reschedule(model, sde)
        for t in times:
            here = sd.level(sde, t)
            exact = -(x - here.alpha * MEAN) / (here.alpha**2 * VAR + here.sigma**2)
            x0 = MEAN + here.alpha * VAR / (here.alpha**2 * VAR + here.sigma**2) * (x - here.alpha * MEAN)
            for time in (t, torch.full((3,), t, dtype=F64)):
                said = moved(x, time)
                torch.testing.assert_close(said.score, exact, rtol=1e-8, atol=1e-8)
                torch.testing.assert_close(said.x0, x0, rtol=1e-8, atol=1e-8)
                torch.testing.assert_close(
                    said.velocity, here.f * x - here.g2 / 2 * exact, rtol=1e-8, atol=1e-8 * max(1, here.g2)
                )
        ready = moved.on(sd.levels(sde, sorted(times, reverse=True)), x)
        assert ready.sde is sde


def test_rescheduled_runs_follow_the_new_processs_flow():
    source, sde = sd.VP(), sd.VE(sigma_max=20.0)
    model = sd.reschedule(sd.ScoreModel(exact_score(source, MEAN, VAR), source, predicts="score"), sde)
    x = torch.tensor([[20.0, -15.0], [3.0, 8.0]], dtype=F64)
    late, early = (VAR + sde.sigma(torch.tensor(t, dtype=F64)) ** 2 for t in (1.0, 0.2))
    exact = MEAN + (x - MEAN) * torch.sqrt(early / late)
    tight = sd.solver("ode", rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sd.sample(model, x=x, solver=tight, stop=0.2, denoise=False), exact, rtol=1e-6, atol=0)
    fine = sd.sample(model, x=x, solver="dpmpp_2m", steps=200, stop=0.2, denoise=False)
    torch.testing.assert_close(fine, exact, rtol=1e-3, atol=1e-3)


def test_rescheduling_twice_is_rescheduling_once_and_there_and_back_is_nothing(normals):
    source, x = sd.VP(), normals(2, 2)
    model = sd.ScoreModel(exact_score(source, MEAN, VAR), source, predicts="score")
    once, twice = sd.reschedule(model, sd.EDM()), sd.reschedule(sd.reschedule(model, sd.RectifiedFlow()), sd.EDM())
    torch.testing.assert_close(twice(x, 1.5).x0, once(x, 1.5).x0, rtol=1e-12, atol=0)
    back = sd.reschedule(once, source)
    torch.testing.assert_close(back(x, 0.4).x0, model(x, 0.4).x0, rtol=1e-10, atol=0)


def test_beyond_the_lam_that_a_network_knows_its_nearest_end_is_used():
    # VE goes on past VP's noisiest level, and rectified flow as far as alpha = 0.
    read, source = [], sd.VP()
    model = sd.ScoreModel(lambda x, t: read.append(t[0].item()) or 0 * x, source, predicts="v")
    x = torch.ones(1, 2, dtype=F64)
    assert sd.reschedule(model, sd.VE(sigma_max=500.0))(x, 1.0).x0.isfinite().all()
    assert sd.reschedule(model, sd.RectifiedFlow())(x, 1.0).x0.isfinite().all()
    assert read == pytest.approx([1.0, 1.0], rel=1e-12)


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda x, t: x[:, :2], r"the network returned shape \(2, 2\) for states \(2, 3\)"),
        (lambda x, t: x[:1], r"the network returned shape \(1, 3\) for states \(2, 3\)"),
        (lambda x, t: x.sum(), r"the network returned shape \(\) for states \(2, 3\)"),
        (lambda x, t: torch.cat([x, x]), r"the network returned shape \(4, 3\)"),
        (lambda x, t: x.double(), "the network returned torch.float64 for torch.float32 states: cast one of them"),
        (lambda x, t: x.numpy(), r"the network returned ndarray, needed: a tensor of shape \(2, 3\)"),
        (lambda x, t: None, "the network returned NoneType, needed: a tensor"),
        (lambda x, t: (1.0, x), "the network returned float, needed: a tensor"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(net, message):
    with pytest.raises(sd.ModelError, match=message):
        sd.ScoreModel(net, sd.VP())(torch.ones(2, 3), 0.5)


def test_a_narrower_output_is_cast_to_the_states():
    said = sd.ScoreModel(lambda x, t: x.half(), sd.VP())(torch.ones(2, 3), 0.5)
    assert said.raw.dtype == torch.float32


@pytest.mark.parametrize("predicts", ["eps", "score"])
@pytest.mark.parametrize("batch", [False, True], ids=["float", "tensor"])
def test_at_alpha_zero_eps_and_score_do_not_determine_x0(predicts, batch):
    sde, x = sd.RectifiedFlow(), torch.ones(2, 3, dtype=F64)
    said = sd.ScoreModel(lambda x, t: 2 * x, sde, predicts=predicts)(x, torch.ones(2, dtype=F64) if batch else 1.0)
    assert torch.equal(getattr(said, predicts), 2 * x)
    for name in {"x0", "velocity"}:
        with pytest.raises(
            sd.SDEError, match=rf"at t=.*1.* alpha is 0 and a {predicts} network does not determine {name}: start below"
        ):
            getattr(said, name)


@pytest.mark.parametrize("predicts", ["x0", "v", "edm", "velocity"])
@pytest.mark.parametrize("batch", [False, True], ids=["float", "tensor"])
def test_at_alpha_zero_the_others_do(predicts, batch, normals):
    # There x is the noise: eps = x, and on the straight path velocity = eps - x0.
    sde, x, x0 = sd.RectifiedFlow(), normals(2, 3), normals(2, 3, seed=1)
    raw = {"x0": x0, "v": -x0, "edm": x0 / 1.0, "velocity": x - x0}[predicts]
    model = sd.ScoreModel(lambda x, t: raw, sde, predicts=predicts, time="t")
    said = model(x, torch.ones(2, dtype=F64) if batch else 1.0)
    for name, expected in (("x0", x0), ("eps", x), ("score", -x), ("v", -x0), ("velocity", x - x0)):
        torch.testing.assert_close(getattr(said, name), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("time", ["lam", "log_snr", "sigma", "c_noise"])
def test_a_clock_that_is_infinite_at_alpha_zero_is_refused(time):
    model = sd.ScoreModel(lambda x, t: x, sd.RectifiedFlow(), predicts="v", time=time)
    with pytest.raises(sd.ModelError, match=rf"the clock '{time}' reads -?inf at t=1.0: start below it"):
        model(torch.ones(1, 2), 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predicts": "epsilon"}, "unknown parametrisation 'epsilon': did you mean eps"),
        ({"time": "sigmas"}, "unknown clock 'sigmas': did you mean sigma"),
        ({"time": "index"}, 'time="index" needs a Table, given VP: use time="t"'),
    ],
)
def test_unknown_words_are_answered_with_the_nearest(options, message):
    with pytest.raises(sd.ModelError, match=message):
        sd.ScoreModel(lambda x, t: x, sd.VP(), **options)


def test_a_network_in_train_mode_is_refused_where_that_matters():
    class Net(nn.Module):
        def __init__(self, *parts):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 3), *parts)

        def forward(self, x, t):
            return self.body(x)

    active = sd.ScoreModel(Net(nn.Dropout(0.5)).train(), sd.VP())
    for run in (
        lambda: sd.sample(active, (2, 3), steps=2),
        lambda: sd.encode(active, torch.ones(2, 3)),
        lambda: next(sd.iterate(active, (2, 3), steps=2)),
    ):
        with pytest.raises(sd.ModelError, match=r"in train mode and body.1 is active there: write net.eval\(\)"):
            run()
    active.net.eval()
    assert sd.sample(active, (2, 3), steps=2).shape == (2, 3)
    assert sd.sample(sd.ScoreModel(Net(nn.SiLU()).train(), sd.VP()), (2, 3), steps=2).shape == (2, 3)


def test_states_are_not_changed_by_a_model(normals):
    x = normals(2, 3)
    before = x.clone()
    said = sd.ScoreModel(lambda x, t: torch.tanh(x), sd.VP(), predicts="v")(x, 0.5)
    raw = said.raw.clone()
    for name in SAYS:
        getattr(said, name)
    said.mix(1.0, x0=2.0)
    assert torch.equal(x, before)
    assert torch.equal(said.raw, raw)


# --- what is kept between runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [lambda t: t.mul_(10.0), lambda t: t.data.mul_(10.0), lambda t: t.numpy().fill(9.0)])
def test_a_network_that_writes_into_its_clock_gets_a_new_one_in_the_next_run(write):
    def net(x, t):
        write(t)
        return x * t.reshape(-1, 1)

    model = sd.ScoreModel(net, sd.VP())
    once, again = (sd.sample(model, (2, 3), solver="ddim", steps=3, dtype=F64) for _ in range(2))
    assert torch.equal(once, again)


def test_a_first_run_in_inference_mode_leaves_later_ones_their_gradients():
    net, sde = nn.Linear(3, 3).to(F64), sd.VP(beta_max=17.0)
    model = sd.ScoreModel(lambda x, t: net(x) * t[:, None], sde)
    with torch.inference_mode():
        first = sd.sample(model, (2, 3), solver="adams", steps=3, dtype=F64)
    second = sd.sample(model, (2, 3), solver="adams", steps=3, dtype=F64, grad=True)
    second.sum().backward()
    assert torch.equal(first, second.detach())
    assert net.weight.grad.abs().sum() > 0


def test_a_grid_first_asked_for_in_inference_mode_has_its_slopes():
    sde = sd.VP(beta_max=16.5)
    with torch.inference_mode():
        inside = sd.levels(sde, [0.8, 0.2])
    assert sd.levels(sde, [0.8, 0.2]) is inside
    assert inside[0].g2 == pytest.approx(0.1 + 0.8 * 16.4)
    assert inside[1].alpha_dot < 0


def test_models_that_read_other_clocks_share_no_frames():
    seen = []

    def net(x, t):
        seen.append(t.tolist())
        return x

    for size, options in ((2, {}), (3, {}), (2, {"time": "lam"}), (2, {"time": lambda v: 5.0})):
        sd.sample(sd.ScoreModel(net, sd.VP(), **options), (size, 1), solver="ddim", steps=1, denoise=False, dtype=F64)
    assert seen == [[1.0] * 2, [1.0] * 3, [sd.VP().lam(1.0).item()] * 2, [5.0] * 2]
