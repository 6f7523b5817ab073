"""Levels: what they hold, their places, the inner levels of a step."""

import copy
import itertools
import pickle
from dataclasses import dataclass

import pytest
import torch

import sdediff as sd
from sdediff.grids.levels import AtLam, Evaluation
from tests.grids.counted import Counted

F64 = torch.float64
NAMES = ("time", "alpha", "sigma", "lam", "alpha_dot", "sigma_dot", "f", "g2")


@dataclass(frozen=True)
class TwoNodes(sd.Solver):
    """Visits two times within a step."""

    def inner(self, sde, t, s):
        return [t.time - 0.1, (t.time + s.time) / 2]

    def step(self, model, x, t, s, state, noise):
        return model(x, t).x0, None


class Watched(sd.VP):
    """A process that counts how often its two methods are called."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "calls", [])

    def alpha(self, t):
        self.calls.append(("alpha", tuple(t.shape)))
        return super().alpha(t)

    def sigma(self, t):
        self.calls.append(("sigma", tuple(t.shape)))
        return super().sigma(t)


def test_levels_hold_floats_and_know_their_place(sde):
    times = sd.grid(sde.grid, sde, 5)
    row = sd.levels(sde, times)
    found = sde.schedule(times)
    for i, here in enumerate(row):
        assert (here.index, here.time) == (i, times[i].item())
        assert (here.inner, here.coefficients) == ((), None)
        for name in NAMES:
            value = getattr(here, name)
            assert type(value) is float
            assert value == pytest.approx(getattr(found, name)[i].item(), rel=1e-14, nan_ok=True)
    assert row[-1].kappa == pytest.approx(row[-1].sigma / row[-1].alpha)
    assert repr(row[2]) == f"Level(time={times[2].item()!r}, index=2)"


def test_a_run_hands_over_the_inner_levels_of_a_step():
    sde, evaluation = sd.VP(), Evaluation(sd.VP())
    row = evaluation.at([1.0, 0.5, 0.25], 0)
    TwoNodes().visit(evaluation, list(itertools.pairwise(row)))
    assert [[v.time for v in here.inner] for here in row] == [[], [0.9, 0.75], [0.4, 0.375]]
    node = row[2].inner[1]
    assert node.index == 1
    assert node.alpha == pytest.approx(sde.alpha(torch.tensor(0.375, dtype=F64)).item(), rel=1e-14)


def test_a_place_by_its_time_is_not_one_by_its_lam():
    by_time, by_lam = Evaluation(sd.VP()).at_places([0.3, AtLam(0.3)])
    assert by_time.time == 0.3
    assert by_lam.lam == pytest.approx(0.3)


def test_slopes_are_evaluated_once_for_all_levels_of_a_run():
    sde = Watched()
    evaluation = Evaluation(sde)
    row = evaluation.at([0.9, 0.5, 0.1], 0)
    (extra,) = evaluation.at([0.3])
    values = list(sde.calls)
    assert all(v.alpha > 0 for v in row)
    assert sde.calls == values, "values are held"
    assert row[1].g2 > 0
    slopes = sde.calls[len(values) :]
    assert {shape for _, shape in slopes} == {(4,)}
    assert len(slopes) == 2
    assert [v.f < 0 for v in (*row, extra)] == [True] * 4
    assert sde.calls[len(values) :] == slopes, "no level evaluates its slopes again"


def test_levels_added_after_the_slopes_have_slopes_too():
    evaluation = Evaluation(sd.VP())
    first, _ = evaluation.at([0.9, 0.5], 0)
    g2 = first.g2
    (later,) = evaluation.at([0.2])
    assert later.g2 == pytest.approx(0.1 + 0.2 * 19.9)
    assert first.g2 == g2 == pytest.approx(0.1 + 0.9 * 19.9)


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m", "dpm_solver_2", "ancestral", "unipc"])
def test_a_run_evaluates_its_process_no_oftener_with_more_steps(name):
    counts = []
    for steps in (12, 40):  # shorter ones are tried on Gaussian data first
        sde = Watched()
        sd.sample(sd.ScoreModel(Counted(), sde), (1, 2), solver=name, steps=steps)
        counts.append(len(sde.calls))
    assert counts[0] == counts[1] <= 30


def test_a_copy_of_a_level_is_the_end_of_another_step():
    row = sd.levels(sd.VP(), [0.9, 0.5])
    row[1].inner, row[1].coefficients = row[:1], "weights"
    twin = row[1].copy()
    assert (twin.inner, twin.coefficients, twin.index) == ((), None, 1)
    assert row[1].inner == row[:1]
    assert (twin.time, twin.sigma, twin.g2) == (row[1].time, row[1].sigma, row[1].g2)


def test_a_pickled_level_holds_its_numbers():
    evaluated, plain = sd.levels(sd.VP(), [0.9, 0.5])[1], sd.levels(sd.VP(), [0.9, 0.5])[1]
    assert evaluated.g2 > 0
    for level in (evaluated, plain):
        for found in (pickle.loads(pickle.dumps(level)), copy.deepcopy(level)):
            held = NAMES if level is evaluated else NAMES[:4]
            assert all(getattr(found, name) == getattr(level, name) for name in (*held, "index"))
            assert len(pickle.dumps(found)) < 1000


def test_level_takes_a_float_a_batch_or_a_level():
    sde = sd.VP()
    one, batch = sd.level(sde, 0.3), sd.level(sde, torch.tensor([0.3, 0.6], dtype=torch.float32))
    assert type(one.alpha) is float
    assert batch.alpha.dtype == F64
    assert batch.lam.tolist() == pytest.approx([sd.level(sde, t).lam for t in batch.time.tolist()], rel=1e-14)
    assert batch.g2.tolist() == pytest.approx([sd.level(sde, t).g2 for t in batch.time.tolist()], rel=1e-14)
    assert sd.level(sde, one) is one


def test_neighbouring_levels_are_the_steps_of_a_run():
    # No repeated and no skipped times, the last as documented.
    seen = []
    model = sd.ScoreModel(Counted(), sd.VP())
    sd.sample(model, (1, 2), solver="ddim", steps=7, callback=lambda state: seen.append(state.t.time))
    assert seen == sd.grid("uniform", sd.VP(), 7).tolist()
    assert all(a > b for a, b in itertools.pairwise(seen))


def test_a_copy_of_a_level_of_many_times_has_its_slopes():
    times = torch.tensor([0.2, 0.7], dtype=torch.float64)
    row, sde = sd.level(sd.VP(), times), sd.VP()
    copied = row.copy().copy()
    torch.testing.assert_close(copied.g2, sde.diffusion(times) ** 2)  # recursed for ever
    assert torch.equal(row.g2, copied.g2)
    assert torch.equal(row.copy().f, copied.f)


@pytest.mark.parametrize("t", [0.3, torch.tensor([0.2, 0.7], dtype=torch.float64)], ids=["one", "many"])
def test_an_unpickled_level_has_its_slopes(t):
    sde = sd.VP()
    found = pickle.loads(pickle.dumps(sd.level(sde, t)))
    torch.testing.assert_close(torch.as_tensor(found.g2, dtype=F64), sde.diffusion(t) ** 2)
    torch.testing.assert_close(torch.as_tensor(found.alpha_dot, dtype=F64), sde.slopes(t)[0])
