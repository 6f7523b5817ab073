"""LikelihoodSettings: one definition for log_likelihood, its relatives, the job, its manifest and the command line."""

import dataclasses
import inspect
import json
import typing

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.cli.likelihood import likelihood as command
from sdediff.cli.option_groups import grouped
from sdediff.likelihood.settings import DEFAULTS, METHODS, PRESETS
from sdediff.nets import MLP

NAMES = [f.name for f in dataclasses.fields(sd.LikelihoodSettings)]
TYPES = typing.get_type_hints(sd.LikelihoodSettings)
# A command cannot set these: a job has no gradients, and the data say their levels.
NO_OPTION = ("gradient", "discrete")
# What a function takes beside the settings, and the settings that it does not take one by one.
OTHERS = {"settings", "seed", "index", "cond", "micro_batch", "dtype", "device", "progress", "model", "x", "shape"}
ONE_BY_ONE = {
    sd.log_likelihood: set(NAMES),
    sd.likelihood_job: set(NAMES) - {"gradient"},
    sd.sample_with_log_prob: set(DEFAULTS["two_pass"]) - {"variable", "discrete", "solver_error"},
    sd.path_statistics: {"rtol", "atol", "trace", "probes"},
}


@pytest.fixture(scope="module")
def model():
    return sd.target("target_m").model(sd.VP())


@pytest.fixture(scope="module")
def points():
    return sd.target("target_m").sample(3, seed=0)


CHOICES = [
    {},
    {"trace": "exact", "rtol": 1e-2, "atol": 1e-2},
    {"method": "ode", "probes": 2, "end": "heat", "rtol": 1e-3},
    {"method": "vlb", "steps": 4, "noises": 2},
    {"method": "continuous_vlb", "steps": 4, "variable": "t"},
]


@pytest.mark.parametrize("choice", CHOICES)
def test_settings_are_taken_whole_or_as_keywords(model, points, choice):
    one = sd.log_likelihood(model, points, seed=3, **choice)
    whole = sd.log_likelihood(model, points, seed=3, settings=sd.LikelihoodSettings(**choice))
    assert torch.equal(one.log_prob, whole.log_prob)
    assert one.method == choice.get("method", "two_pass")


def test_the_relatives_take_settings_whole(model, points):
    quick = {"trace": "exact", "rtol": 1e-2, "atol": 1e-2}
    settings = sd.LikelihoodSettings(**quick)
    one, whole = (sd.sample_with_log_prob(model, (3, 2), **k)[1] for k in (quick, {"settings": settings}))
    assert torch.equal(one.log_prob, whole.log_prob)
    one, whole = (sd.path_statistics(model, points, kappa=3, **k) for k in (quick, {"settings": settings}))
    assert torch.equal(one.features, whole.features)


@pytest.mark.parametrize("function", ONE_BY_ONE, ids=lambda f: f.__name__)
def test_keywords_have_the_types_of_the_fields_and_no_defaults_of_their_own(function):
    parameters = inspect.signature(function).parameters
    hints = typing.get_type_hints(function)
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert set(parameters) & set(NAMES) == ONE_BY_ONE[function]
    for name in ONE_BY_ONE[function]:
        assert parameters[name].default is None, name
        assert hints[name] == TYPES[name], name


def test_options_of_the_command_line_are_the_fields():
    options = inspect.signature(grouped(command)).parameters
    assert set(NAMES) - set(options) == set(NO_OPTION)
    for field in dataclasses.fields(sd.LikelihoodSettings):
        if field.name not in NO_OPTION:
            option = typing.get_args(options[field.name].annotation)[-1]
            assert option.help.startswith(field.metadata["help"])
            assert options[field.name].default is None


def test_the_manifest_holds_every_field(tmp_path):
    torch.manual_seed(0)
    network = sd.ScoreModel(MLP(2, width=8, blocks=1).eval(), sd.VP())
    rows = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    quick = {"trace": "exact", "rtol": 1e-2, "atol": 1e-2}
    sd.likelihood_job(network, rows, tmp_path / "job", progress=False, **quick)
    stored = json.loads((tmp_path / "job" / "manifest.json").read_text())["settings"]
    values = sd.LikelihoodSettings(**quick).values()
    assert {name: stored[name] for name in NAMES} == values
    said = []
    settings = sd.LikelihoodSettings(**quick)
    sd.likelihood_job(network, rows, tmp_path / "job", settings=settings, progress=False, say=said.append)
    assert said == ["begun before: all 3 rows are done"]


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_has_a_default_a_text_and_a_method(method):
    values = sd.LikelihoodSettings(method=method).values()
    assert list(values) == NAMES
    assert {k: values[k] for k in DEFAULTS[method]} == DEFAULTS[method]
    assert set(NAMES) == {"method", "preset"}.union(*DEFAULTS.values())
    for field in dataclasses.fields(sd.LikelihoodSettings):
        assert f"{field.name}: {field.metadata['help']}" in sd.LikelihoodSettings.__doc__


def test_presets_are_settings_and_give_way_to_what_is_given():
    for name, preset in PRESETS.items():
        assert sd.LikelihoodSettings(**preset).values() == {
            **sd.LikelihoodSettings(preset=name).values(),
            "preset": None,
        }
    values = sd.LikelihoodSettings(preset="literature", trace="exact", rtol=1e-3).values()
    assert (values["trace"], values["rtol"], values["atol"], values["integrator"]) == ("exact", 1e-3, 1e-5, "RK45")


REFUSED = [
    ({"trace": "exact", "probes": 4}, "probes=4 has no effect with trace='exact'"),
    ({"preset": "literature", "method": "two_pass"}, "method='two_pass' with preset='literature', which is of 'ode'"),
    ({"method": "ode", "integrator": "rk4", "rtol": 1e-3}, "rtol=0.001 has no effect with rk4, whose steps are fixed"),
    ({"method": "vlb", "solver_error": "measure"}, "has no solver error"),
    ({"method": "vlb", "nodes": 3}, "nodes=3 does not belong to method='vlb': it is for 'two_pass'"),
    ({"gradient": "direct"}, "does not belong to method='two_pass': it is for 'ode'"),
    ({"atol": float("inf")}, "atol=inf: give a finite number"),
    ({"discrete": sd.Discrete(4), "end": "t0"}, 'gives a density: write end="noised"'),
    ({"prior": "ful"}, "unknown prior 'ful': did you mean 'full'"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_what_would_be_ignored_or_is_unknown_is_refused(given, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        sd.LikelihoodSettings(**given)


def test_settings_and_keywords_together_are_refused(model, points, tmp_path):
    settings = sd.LikelihoodSettings(trace="exact")
    calls = (
        lambda: sd.log_likelihood(model, points, settings=settings, rtol=1e-3, nodes=3),
        lambda: sd.path_statistics(model, points, settings=settings, rtol=1e-3),
        lambda: sd.sample_with_log_prob(model, (2, 2), settings=settings, rtol=1e-3),
        lambda: sd.likelihood_job(model, points, tmp_path / "out", settings=settings, rtol=1e-3),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"settings= was given together with rtol=.*dataclasses\.replace"):
            call()
    assert not (tmp_path / "out").exists()


def test_functions_refuse_whole_settings_that_they_would_not_follow(model, points, tmp_path):
    bound = sd.LikelihoodSettings(method="vlb")
    with pytest.raises(ValueError, match="method='vlb': sample_with_log_prob takes two passes"):
        sd.sample_with_log_prob(model, (2, 2), settings=bound)
    with pytest.raises(ValueError, match="method='vlb': path_statistics takes two passes"):
        sd.path_statistics(model, points, settings=bound)
    with pytest.raises(ValueError, match='solver_error="measure" scores given data twice'):
        sd.sample_with_log_prob(model, (2, 2), settings=sd.LikelihoodSettings(solver_error="measure"))
    with pytest.raises(sd.jobs.JobError, match="a job writes numbers without gradients"):
        sd.likelihood_job(
            model, points, tmp_path / "out", settings=sd.LikelihoodSettings(method="ode", gradient="direct")
        )


def test_t0_of_a_chain_on_a_table_is_its_first_timestep():
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 10, dtype=torch.float64))
    assert sd.LikelihoodSettings(method="vlb").start_time(table) == table.t0
    with pytest.raises(ValueError, match="the chain of a table ends at its first training timestep: leave t0 out"):
        sd.LikelihoodSettings(method="vlb", t0=2.0).start_time(table)
    with pytest.raises(ValueError, match=r"t0=2\.0 must lie between 0 and T=1\.0"):
        sd.LikelihoodSettings(t0=2.0).start_time(sd.VP())


def test_reprs_are_short_and_show_what_matters(model, points, tmp_path):
    assert repr(sd.LikelihoodSettings()) == "LikelihoodSettings()"
    assert repr(sd.LikelihoodSettings(trace="exact", rtol=1e-3)) == "LikelihoodSettings(rtol=0.001, trace='exact')"
    result = sd.log_likelihood(model, points)
    mean = f"mean log p {result.log_prob.mean():.4g} +- "
    assert repr(result).startswith(f"Likelihood(3 samples, {mean}")
    failed = result.with_(status=("ok", "step limit", "ok"))
    assert repr(failed).startswith("Likelihood(3 samples, 1 failed, mean log p ")
    assert "none" in repr(result.with_(status=("step limit",) * 3))
    page = result._repr_html_()
    assert all(f"<td>{name}</td>" in page for name in ("log p", *result.terms, "solver_error"))
    statistics = sd.path_statistics(model, points, kappa=3)
    assert repr(statistics).startswith("PathStatistics(3 samples, 3 noise levels kappa=0.01..10, Likelihood(3 samples")
    summary = sd.likelihood_job(model, points.numpy(), tmp_path / "job", progress=False)
    assert repr(summary).startswith(f"Summary(data: 3 samples, mean log p {summary.log_prob:.4f} +- ")
    assert "<td>log_prob</td>" in summary._repr_html_()
    assert not any("tensor(" in repr(v) or "\n" in repr(v) for v in (result, failed, statistics, summary))
