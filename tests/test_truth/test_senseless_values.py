"""Values outside what makes sense, and wrong kinds of objects: one sentence each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sdediff as sd


def net(x, t):
    return 0.1 * x


MODEL = sd.ScoreModel(net, sd.VP())
X = torch.ones(3, 2)
BAD = X.clone()
BAD[1, 0] = math.nan
RUNS = {
    "sample": lambda x, **k: sd.sample(MODEL, x=x, solver="ddim", steps=2, **k),
    "iterate": lambda x, **k: list(sd.iterate(MODEL, x=x, solver="ddim", steps=2, **k)),
    "Sampler": lambda x, **k: sd.Sampler(MODEL, solver="ddim", steps=2, **k)(x=x),
    "encode": lambda x, **k: sd.encode(MODEL, x, solver="ddim", steps=2, **k),
    "decode": lambda x, **k: sd.decode(MODEL, x, solver="ddim", steps=2, **k),
}
STATES = {
    "complex": (X.to(torch.complex64), "states are floating-point"), "integers": (X.long(),
    "states are floating-point"),
    "booleans": (X.bool(), "states are floating-point"), "numpy": (X.numpy(), "write torch.as_tensor"),
    "a list": (X.tolist(), "write torch.as_tensor"), "0-d": (torch.tensor(1.0), r"shape \(\)"),
    "a 0-d array": (np.array(1.0), "needed is a tensor"), "a row": (X[0], r"shape \(2,\)"),
    "empty": (X[:0], r"\(0, 2\)"),
    "no numbers": (X.to("meta"), "without plain numbers"), "sparse": (X.to_sparse(), "without plain numbers"),
    "nan": (BAD, r"NaN or infinite in row 1 \(1 of 3 rows\)"), "inf": (X / 0, "in row 0"), "text": ("x",
    "needed is a tensor"),
}  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("kind", STATES)
def test_states_that_are_none(run, kind):
    x, said = STATES[kind]
    with pytest.raises(sd.Error, match=said):
        RUNS[run](x)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    ("options", "said"),
    [({"dtype": t}, "states are floating-point") for t in (torch.int64, torch.complex64, torch.bool, "float32",
    np.float32)]
    + [({"device": d}, "cannot be used here|holds no numbers") for d in ("nonsense", "meta", "cuda:99", 3.5, [])],
)  # fmt: skip
def test_types_and_devices(run, options, said):
    with pytest.raises(sd.Error, match=said):
        RUNS[run](X, **options)


@pytest.mark.parametrize(
    "options",
    [{"calls": v} for v in ("5", 5.0, True, 10**30, [5], math.nan)]
    + [{"steps": v} for v in ("5", 2.5, True, 10**30, [5], 0, -1)]
    + [{"seed": v} for v in (1.0, True, "1", -1, 2**64, [1])]
    + [{"index": v} for v in (1.0, True, "1", -1, [0.5, 1], [[1, 2], [3, 4]], [1, 2, 3], np.array([0.5, 1.0]), None)]
    + [{"shape": v} for v in ((0, 2), (2, -1), (2.0, 2), (2,), "22", 4, (True, 2), (10**30, 2), (2, None), {})]
    + [{"start": v} for v in ("1", True, math.nan, 2.0, 1j)]
    + [{"solver": v} for v in (3, "dpmpp2m", [], sd.solvers.DDIM)]
    + [{"noise": v} for v in (3, "browning", sd.Counter)]
    + [{"cond": v} for v in (3, "x", [1], {1: 2})]
    + [{"grid": v} for v in (3, "karas", ["a"], [0.1, 0.5], torch.ones(3, 2), lambda sde, n, a, b: "a", [1j, 0.5])]
    + [{name: 3} for name in ("denoise", "full", "grad", "compile", "progress", "callback", "resume")],
    ids=lambda v: " ".join(f"{name}={getattr(value, '__name__', repr(value)):.30}" for name, value in v.items()),
)
def test_arguments_of_sample(options):
    with pytest.raises(sd.Error):
        sd.sample(MODEL, **({"shape": (2, 2), "solver": "ddim"} | options))


def test_whole_numbers_of_numpy_are_whole_numbers():
    plain = sd.sample(MODEL, (3, 2), solver="ancestral", steps=3, seed=5, index=[4, 5, 6])
    for index in (np.int64(4), np.array([4, 5, 6]), torch.tensor([4, 5, 6]), (np.int32(4), 5, 6), range(4, 7)):
        x = sd.sample(
            MODEL, (np.int64(3), np.int32(2)), solver="ancestral", steps=np.int64(3), seed=np.uint64(5), index=index
        )
        assert torch.equal(x, plain)
    assert torch.equal(sd.target("ring").sample(np.int64(3), np.int64(2)), sd.target("ring").sample(3, 2))
    assert sd.statistics(torch.randn(5, 3), rank=np.int64(2)).directions.shape == (2, 3)


def test_nan_of_the_network_is_named_with_its_step():
    model = sd.ScoreModel(lambda x, t: torch.where(t[:, None] < 0.45, math.nan, 1.0) * x, sd.VP())
    for run in (
        lambda: sd.sample(model, (3, 2), solver="ddim", grid=[1.0, 0.6, 0.4, 0.2]),
        lambda: sd.sample(model, (3, 2), solver="ddim", grid=[1.0, 0.6, 0.4, 0.2], full=True),
        lambda: list(sd.iterate(model, (3, 2), solver="ddim", grid=[1.0, 0.6, 0.4, 0.2])),
        lambda: sd.decode(model, X, solver="ddim", grid=[1.0, 0.6, 0.4, 0.2]),
    ):
        with pytest.raises(sd.SolverError, match=r"NaN or infinity in step 3 from t=0.4 to t=0.2 \(3 of 3 samples"):
            run()
    with pytest.raises(sd.SolverError, match=r"at t=0.4, in the last jump to data"):
        sd.sample(model, (3, 2), solver="ddim", grid=[1.0, 0.6, 0.4])
    with pytest.raises(sd.SolverError, match="returned NaN or infinity there"):
        sd.encode(model, X)


@pytest.mark.parametrize(
    "t", [2.0, -0.1, math.nan, "a", None, [0.1], np.array([0.1, 0.2]), torch.tensor([0.5, 0.6, 1.7])]
)
def test_times_outside_of_the_process(t):
    with pytest.raises(sd.Error):
        MODEL(X, t)
    for function in (sd.level, lambda sde, t: sd.levels(sde, [0.5, t]), lambda sde, t: sde.marginal(t)):
        if not isinstance(t, np.ndarray | list):
            with pytest.raises(sd.Error):
                function(sd.VP(), t)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sd.ScoreModel(3, sd.VP()), lambda: sd.ScoreModel(net, 3), lambda: sd.ScoreModel(net, sd.VP),
        lambda: sd.ScoreModel(None, sd.VP()), lambda: sd.ScoreModel("net", sd.VP()), lambda: sd.ScoreModel(net, "vp"),
        lambda: sd.ScoreModel(MODEL, sd.VP()), lambda: sd.ScoreModel(torch.nn.Linear, sd.VP()),
        lambda: sd.ScoreModel(net, sd.VP(), predicts=3), lambda: sd.ScoreModel(net, sd.VP(), stats=3),
        lambda: sd.ScoreModel(net, sd.VP(), cond=3), lambda: sd.ScoreModel(net, sd.VP(), predicts="edm",
        sigma_data=-1.0),
        lambda: sd.VP(beta_max="20"), lambda: sd.VP(T=math.nan), lambda: sd.VE(zero_start=2), lambda: sd.EDM(T=True),
        lambda: sd.EDM(T=-1.0), lambda: sd.RectifiedFlow(t_min=2.0), lambda: sd.Cosine(s="a"),
        lambda: sd.Table.from_betas("a"),
        lambda: sd.Table.from_sigmas([[0.1, 1.0]]), lambda: sd.level(3, 0.5), lambda: sd.levels(None, [0.5]),
        lambda: sd.statistics("a"), lambda: sd.statistics(X.to(torch.complex64)), lambda: sd.statistics(X, rank=1.5),
        lambda: sd.target(3), lambda: sd.target("ring").sample("3"), lambda: sd.target("ring").sample(3,
        dtype=torch.int64),
        lambda: sd.target("ring").log_prob(BAD), lambda: sd.target("ring").model(3), lambda: sd.targets.ring(2.5),
        lambda: sd.metrics.energy_distance("a", X), lambda: sd.metrics.mmd(torch.randn(30, 2), torch.randn(30, 2), "a"),
        lambda: sd.metrics.frechet(torch.randn(30, 2), torch.randn(30, 2), 3), lambda: sd.latent.slerp(X, -2 * BAD,
        0.5),
        lambda: sd.latent.interpolate(X, 2 * X, 2.5), lambda: sd.latent.lerp(X, X, "a"), lambda: sd.Brownian(span=-1.0),
        lambda: sd.solver("ddim", eta="a"), lambda: sd.solver("ode", rtol=math.nan), lambda: sd.solver("restart",
        s_noise="a"),
        lambda: sd.loss(MODEL, BAD), lambda: sd.loss(MODEL, X, t=0.5), lambda: sd.loss(MODEL, X, weighting=3),
        lambda: sd.analyse("ddim", 3), lambda: sd.analyse("ddim", sd.VP(), spectrum="a"),
        lambda: sd.guidance.clip(MODEL, "a"),
        lambda: sd.analyse("ddim", sd.VP(), mean=[1.0, 2.0]), lambda: sd.guidance.threshold(MODEL, quantile="a"),
    ],
)  # fmt: skip
def test_wrong_kinds_of_object(make):
    with pytest.raises(sd.Error):
        make()


@pytest.mark.parametrize(
    "use",
    [
        lambda m: sd.sample(m, (2, 2)), lambda m: sd.iterate(m, (2, 2)), sd.Sampler, lambda m: sd.encode(m, X),
        lambda m: sd.decode(m, X), lambda m: sd.loss(m, X), lambda m: sd.reschedule(m, sd.VP()), sd.guidance.clip,
        sd.guidance.threshold, lambda m: sd.guidance.map_prediction(m, net), lambda m: sd.save(m, "x"),
        lambda m: sd.recommend(m, calls=4,
        sample_shape=(2,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", [net, torch.nn.Linear(2, 2), None, 3])
def test_something_else_where_a_model_belongs(use, model):
    with pytest.raises(sd.Error, match=r"needed is a ScoreModel: write sd.ScoreModel"):
        use(model)


@pytest.mark.parametrize(
    "use",
    [
        lambda m: sd.sample(m, (1, 1, 8, 8), steps=1), lambda m: sd.loss(m, torch.zeros(1, 1, 8, 8)),
        lambda m: sd.reschedule(m, sd.VE()), sd.guidance.clip, sd.guidance.threshold,
        lambda m: sd.guidance.map_prediction(m, lambda prediction, model: prediction),
    ],
)  # fmt: skip
def test_a_name_where_a_model_belongs(use):
    use("digits-vp")
    with pytest.raises(sd.Error, match="did you mean 'digits-vp'"):
        use("digits-vpp")


def test_states_of_another_shape_than_the_card_says():
    model = sd.load("digits-vp")
    x = torch.zeros(4, 1, 16, 16)
    for run in (
        lambda: sd.sample(model, (4, 1, 16, 16)), lambda: sd.encode(model, x), lambda: sd.loss(model, x),
        lambda: model(x, 0.5),
        lambda: sd.sample(sd.guidance.clip(model), x=x),
    ):  # fmt: skip
        with pytest.raises(sd.Error, match=r"write shape=\(4, 1, 8, 8\)"):
            run()
