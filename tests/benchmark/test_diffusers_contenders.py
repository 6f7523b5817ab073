"""diffusers' schedulers as contenders: their states are ours on the same levels, and objects are taken as they are."""

import importlib
import warnings

import pytest
import torch

import sdediff as sd
from sdediff.benchmark.contenders import ContenderError, contend, errors, exact_end, resolve_contenders
from sdediff.targets import target

pytestmark = pytest.mark.extras
diffusers = pytest.importorskip("diffusers")
F64 = torch.float64


@pytest.fixture(scope="module")
def x():
    return torch.randn(8, 2, dtype=F64, generator=torch.Generator().manual_seed(4))


def seen(model):
    """The model, and the list of the times at which it is evaluated."""
    times = []

    def note(prediction, plain):
        times.append(float(prediction.level.time))
        return prediction

    return sd.ScoreModel(model.net, model.sde, predicts=model.predicts, time=model.time, changes=(note,)), times


# The libraries' tables and levels are float32, but for DDIM's, which is ours.
@pytest.mark.parametrize(
    ("theirs", "ours", "options", "bar"),
    [
        ("DDIM", "ddim", {}, 1e-9),
        ("EulerDiscrete", "ddim", {}, 5e-5),
        ("EulerDiscrete:karras", "ddim", {}, 5e-5),
        ("DPMSolverMultistep", "dpmpp_2m", {}, 5e-5),
        ("DPMSolverMultistep:karras", "dpmpp_2m", {}, 5e-5),
        ("DPMSolverMultistep:solver_type=heun", "adams", {"points": 2}, 5e-5),
        ("UniPCMultistep:lower_order_final=false", "unipc", {"order": 2, "variant": "bh2"}, 5e-5),
    ],
)
def test_a_scheduler_is_our_solver_on_its_own_levels(x, theirs, ours, options, bar):
    model, times = seen(target("target_m").model(sd.VP()))
    outcome = contend(resolve_contenders([f"diffusers:{theirs}"])[0], model, x, 20, repeat=False)
    assert outcome.calls == len(times) == 20
    plain = target("target_m").model(sd.VP())
    mine = sd.sample(plain, x=x * (sd.level(plain.sde, times[0]).sigma / sd.level(plain.sde, 1.0).sigma),
                     solver=sd.solver(ours, **options), grid=times)  # fmt: skip
    assert (outcome.x - mine).abs().max() < bar


@pytest.mark.parametrize("name", [c.name for c in resolve_contenders(["diffusers"])])
@pytest.mark.parametrize("process", [sd.VP(), sd.EDM()])
def test_the_usual_schedulers_keep_the_rules_on_any_process(x, name, process):
    model = target("target_m").model(process)
    start = x * float(sd.level(process, process.T).sigma)
    outcome = contend(resolve_contenders([f"diffusers:{name}"])[0], model, start, 15)
    assert outcome.calls in (14, 15)
    if outcome.notes == () and "Heun" not in name:
        fine = sd.solver("ode", rtol=1e-5, atol=1e-5)
        if not resolve_contenders([f"diffusers:{name}"])[0].stochastic:
            assert errors(outcome.x, exact_end(outcome, model, start, fine)).median() < 0.5


def made(kind, **config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module("diffusers"), kind)(**config)


def test_a_scheduler_object_is_taken_as_it_is(x):
    """Its default spacing begins at 901 of 1000, and its last step is its own."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    model = target("target_m").model(sd.Table.from_betas(betas))
    scheduler = made("DDIMScheduler", beta_schedule="linear", clip_sample=False)
    (contender,) = resolve_contenders([scheduler])
    assert contender.label == "diffusers:DDIM(clip_sample=False)"
    outcome = contend(contender, model, x, 10)
    assert outcome.calls == 10
    assert outcome.time_start == pytest.approx(901, abs=0.1)
    assert "starts at t=901" in outcome.notes[0]

    scheduler.set_timesteps(10)
    y = x * (sd.level(model.sde, 901.0).sigma / sd.level(model.sde, 1000.0).sigma)
    for t in scheduler.timesteps.tolist():
        y = scheduler.step(model(y, t + 1.0).eps, t, y).prev_sample
    assert (outcome.x - y).abs().max() < 1e-5


def test_an_object_that_ends_above_data_is_compared_there(x):
    model = target("target_m").model(sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64)))
    scheduler = made(
        "DPMSolverMultistepScheduler", final_sigmas_type="sigma_min", algorithm_type="dpmsolver",
        beta_schedule="linear",
    )  # fmt: skip
    outcome = contend(resolve_contenders([scheduler])[0], model, x, 40)
    assert outcome.time_end == pytest.approx(1.0, rel=1e-3)
    assert any("compared with the flow there" in note for note in outcome.notes)
    exact = exact_end(outcome, model, x, sd.solver("ode", rtol=1e-5, atol=1e-5))
    assert errors(outcome.x, exact).median() < 0.02


@pytest.mark.parametrize("kind", ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"])
def test_flow_schedulers_run_on_a_flow(x, kind):
    model = target("target_m").model(sd.RectifiedFlow())
    outcome = contend(resolve_contenders([made(kind)])[0], model, x, 41, repeat=False)
    assert outcome.calls in (40, 41)
    exact = exact_end(outcome, model, x, sd.solver("ode", rtol=1e-5, atol=1e-5))
    assert errors(outcome.x, exact).median() < 0.05


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_objects_get_the_output_that_they_are_configured_for(x, kind):
    model = target("target_m").model(sd.VP())
    ends = [
        contend(resolve_contenders([made("DDIMScheduler", prediction_type=p, clip_sample=False)])[0], model, x, 10).x
        for p in ("epsilon", kind)
    ]
    assert (ends[0] - ends[1]).abs().max() < 1e-4


def test_a_scheduler_that_draws_noise_and_says_so_is_fixed_by_the_seed(x):
    model = target("target_m").model(sd.VP())
    for name in ("DDPM", "EulerAncestralDiscrete", "DDIM:eta=1.0"):
        (contender,) = resolve_contenders([f"diffusers:{name}"])
        assert contender.stochastic
        one, two = (contend(contender, model, x, 10, seed=seed).x for seed in (0, 1))
        assert not torch.equal(one, two)


def test_refusals_name_the_scheduler(x):
    with pytest.raises(ValueError, match="did you mean 'DDIM'"):
        contend(resolve_contenders(["diffusers:DDIMs"])[0], target("target_m").model(sd.VP()), x, 5)
    with pytest.raises(ValueError, match="brings a schedule of its own"):
        resolve_contenders(["diffusers:LCM"])
    with pytest.raises(ValueError, match="calls=1 is too few"):
        contend(resolve_contenders(["diffusers:DDIM"])[0], target("target_m").model(sd.VP()), x, 1)
    assert issubclass(ContenderError, sd.Error)
