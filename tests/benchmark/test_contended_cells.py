"""Contenders in a sweep: the same starts, their own counts and notes, and rule-breakers as failed cells."""

import pytest
import torch

import sdediff as sd
from sdediff._utils.machine import versions
from sdediff.benchmark import Contender, Finish
from sdediff.benchmark.contended import at_T
from sdediff.benchmark.entries import Starts
from sdediff.benchmark.tasks import target_task
from tests.benchmark.small import tiny


class Ours(Contender):
    """This package's DDIM as somebody else's sampler."""

    name = "ddim again"

    def run(self, model, x_T, calls, seed):
        return Finish(sd.sample(model, x=x_T, solver="ddim", calls=calls), calls=calls)


class Greedy(Contender):
    name = "greedy"

    def run(self, model, x_T, calls, seed):
        return Finish(sd.sample(model, x=x_T, solver="ddim", calls=calls + 1))


class Noisy(Contender):
    name, stochastic = "noisy", True

    def run(self, model, x_T, calls, seed):
        x = sd.sample(model, x=x_T, solver="ddim", calls=calls)
        return Finish(x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(scope="module")
def report():
    return tiny(None, contenders=[Ours(), Greedy(), Noisy()], solvers=["ddim"], batch=8)


def test_equal_conditions_give_equal_cells(report):
    ours, theirs = ([row for row in report.rows if row.solver == name] for name in ("ddim", "ddim again"))
    for a, b in zip(ours, theirs, strict=True):
        assert (a.calls, a.samples, a.seeds) == (b.calls, b.samples, b.seeds)
        assert a.quality.keys() - b.quality.keys() == {"gaussian"}  # of our solvers alone
        for name, quality in ((name, v) for name, v in a.quality.items() if name in b.quality):
            assert quality.value == pytest.approx(b.quality[name].value, rel=1e-5)
    assert theirs[0].label == "own:ddim again"
    assert all(row.ratio >= 1 for row in theirs)


def test_a_contender_that_breaks_a_rule_is_named_with_it(report):
    assert {cell.solver for cell in report.skipped} == {"greedy"}
    assert all("breaks the rule 'calls'" in cell.status for cell in report.skipped)


def test_a_stochastic_contender_has_distances_alone_and_other_noise_in_every_batch(report):
    noisy = [row for row in report.rows if row.solver == "noisy"]
    assert noisy
    assert all(list(row.quality) == ["energy"] for row in noisy)


def test_states_at_T_are_those_that_sampling_begins_from():
    task = target_task("ring")
    starts = Starts(task, 3, 2, 4, torch.float32, torch.device("cpu"))
    first = next(iter(sd.iterate(task.model, (4, 2), seed=3, index=2, steps=2, dtype=torch.float32)))
    assert torch.equal(at_T(starts), first.x)


def test_unknown_contenders_are_answered():
    with pytest.raises(ValueError, match="diffusers"):
        tiny(None, contenders=["difusers"])


def test_the_versions_of_the_libraries_that_ran_are_stated(tmp_path):
    class Theirs(Ours):
        library, name = "flow_matching", "ddim"

    found = tiny(tmp_path, contenders=[Theirs()], solvers=["ddim"], calls=(4,), seeds=1)
    for stated in (found.settings["settings"]["versions"], found.circumstances["versions"]):
        assert stated["flow-matching"] == versions("flow-matching")["flow-matching"]
        assert "diffusers" not in stated


def test_the_settings_describe_a_contender_beside_a_solver_of_its_name():
    class Namesake(Ours):
        library, name = "other", "ddim"

        def __repr__(self):
            return "Namesake()"

    found = tiny(None, contenders=[Namesake()], solvers=["ddim"], calls=(4,), seeds=1)
    entries = found.settings["settings"]["entries"]
    assert (entries["ddim"], entries["other:ddim"]) == (repr(sd.solver("ddim")), "Namesake()")
