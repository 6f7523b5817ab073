"""Levels: what they hold, their places, the inner nodes of a step."""

import itertools

import pytest
import torch

import sdediff as sd
from tests.grids.counted import Counted

F64 = torch.float64

# --- levels -------------------------------------------------------------------------------------------------------


def test_levels_hold_floats_and_know_their_place(sde):
    times = sd.grid(sde.grid, sde, 5)
    row = sd.levels(sde, times)
    found = sde.schedule(times)
    for i, here in enumerate(row):
        assert (here.index, here.grid, here.time) == (i, row, times[i].item())
        assert here.next is (row[i + 1] if i < 5 else None)
        for name in ("alpha", "sigma", "lam", "alpha_dot", "sigma_dot", "f", "g2"):
            value = getattr(here, name)
            assert type(value) is float
            assert value == pytest.approx(getattr(found, name)[i].item(), rel=1e-14, nan_ok=True)
    assert row[-1].kappa == pytest.approx(row[-1].sigma / row[-1].alpha)
    assert repr(row[2]) == f"Level(t={times[2].item()!r}, index=2 of 6)"


def test_levels_hand_over_the_inner_nodes_of_a_step():
    sde, times = sd.VP(), torch.tensor([1.0, 0.5, 0.25], dtype=F64)
    row = sd.levels(sde, times, lambda process, t, s: [t.time - 0.1, (t.time + s.time) / 2])
    assert [[v.time for v in here.inner] for here in row] == [[], [0.9, 0.75], [0.4, 0.375]]
    node = row[2].inner[1]
    assert (node.index, node.grid) == (1, row)
    assert node.alpha == pytest.approx(sde.alpha(torch.tensor(0.375, dtype=F64)).item(), rel=1e-14)


def test_the_process_is_evaluated_once_a_grid():
    calls = []

    class Watched(sd.VP):
        def alpha(self, t):
            calls.append(t.shape)
            return super().alpha(t)

    sde = Watched()
    sd.levels(sde, sd.grid("uniform", sde, 50))
    assert len(calls) <= 2
    used = len(calls)
    short, long = (sd.sample(sd.ScoreModel(Counted(), sde), (1, 2), solver="heun", steps=n) for n in (4, 40))
    assert short.shape == long.shape
    assert len(calls) - used < 30  # nothing of the 44 steps evaluates the process again


def test_level_takes_a_float_a_batch_or_a_level():
    sde = sd.VP()
    one, batch = sd.level(sde, 0.3), sd.level(sde, torch.tensor([0.3, 0.6], dtype=torch.float32))
    assert type(one.alpha) is float
    assert batch.alpha.dtype == F64
    assert batch.lam.tolist() == pytest.approx([sd.level(sde, t).lam for t in batch.time.tolist()], rel=1e-14)
    assert sd.level(sde, one) is one
    assert one.next is None


# --- errors -------------------------------------------------------------------------------------------------------


def test_neighbouring_levels_are_the_steps_of_a_run():
    # No repeated and no skipped times, the last as documented.
    seen = []
    model = sd.ScoreModel(Counted(), sd.VP())
    sd.sample(model, (1, 2), solver="ddim", steps=7, callback=lambda state: seen.append(state.t.time))
    assert seen == sd.grid("uniform", sd.VP(), 7).tolist()
    assert all(a > b for a, b in itertools.pairwise(seen))
