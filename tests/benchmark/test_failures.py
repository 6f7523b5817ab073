"""What a sweep does with solvers that refuse, networks that raise, and arguments that cannot be."""

import dataclasses

import pytest
import torch

import sdediff as sd
from sdediff.benchmark import Task
from sdediff.jobs import JobError
from tests.benchmark.small import network, tiny


def task(net, name="mine"):
    points = sd.target("ring").sample(100)
    return Task(name, sd.ScoreModel(net, sd.VP()), points[:50], points[50:], 20)


def test_a_network_that_raises_fails_its_cells_and_the_rest_goes_on():
    def net(x, t):
        raise RuntimeError("no such layer")

    report = tiny(None, models=[task(net)], check=False)
    assert {cell.status for cell in report.skipped} == {"failed: RuntimeError: no such layer"}
    assert {row.task for row in report.rows if not row.real} == {"target_m"}
    assert len(report.skipped) == 8


def test_a_sweep_of_failures_alone_ends_with_the_first_reason():
    blown = task(lambda x, t: x / 0)
    options = {"models": [blown], "targets": None, "check": False}
    with pytest.raises(sd.Error, match=r"nothing could run: failed: .* reached NaN or infinity in step 1"):
        tiny(None, **options)
    with pytest.raises(sd.Error, match="reached NaN or infinity in step 1"):
        tiny(None, **options, seeds=5)
    with pytest.raises(sd.Error, match="nothing could run"):
        tiny(None, **options, seeds=5, skip_failed=True)


def test_a_model_of_one_s_own_with_its_data(tmp_path):
    data = sd.target("ring").sample(80)
    report = tiny(tmp_path, models={"own": network()}, targets=None, data=data, check=False)
    assert report.tasks == ["own"]
    assert all(row.error > 0 for row in report.rows if row.solver == "ddim")
    assert "MLP of " in report.settings["model"]["own"]["summary"]


def test_objects_cannot_go_to_other_processes(tmp_path):
    with pytest.raises(JobError, match="models= holds a ScoreModel"):
        tiny(tmp_path, models=[network()], data=torch.zeros(80, 2), workers=2, check=False)


def test_conditions_give_their_rows_in_turn():
    model = dataclasses.replace(network(), net=lambda x, t, shift: x + shift)
    given = Task("conditional", model, torch.randn(50, 2), torch.randn(50, 2), 20)
    cond = {"shift": torch.linspace(0, 1, 7)[:, None]}
    report = tiny(None, models=[given], targets=None, cond=cond, batch=6)
    whole = tiny(None, models=[given], targets=None, cond=cond)
    for a, b in zip(report.rows, whole.rows, strict=True):
        assert a.quality["energy"].value == pytest.approx(b.quality["energy"].value, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": ["gmm46"]}, "gmm64"),
        ({"targets": None, "models": [3]}, "give names, models"),
        ({"targets": "ring"}, r"targets=\['ring'\]"),
        ({"models": ["ring"]}, r"write targets=\['ring'\]"),
        ({"solvers": ["hun"]}, "heun"),
        ({"grids": ["karas"]}, "karras"),
        ({"distances": ["fr\u00e9chet"]}, "unknown distance"),
        ({"distances": ["frechett"]}, "frechet"),
        ({"samples": 5}, "samples=5 of target_m"),
        ({"samples": 0}, "samples"),
        ({"batch": 0}, "batch"),
        ({"seeds": 0}, "seeds"),
        ({"solvers": ["heun"], "calls": (1,)}, "nothing could run: refused"),
        ({"solvers": []}, "give solvers"),
        ({"targets": ["ring", "ring"]}, "two models are named 'ring'"),
    ],
)
def test_refusals_say_what_is_wrong(options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        tiny(None, **options)
