"""Grids that are kept between runs, and what may change and is asked again."""

import dataclasses

import pytest
import torch
from torch import nn

import sdediff as sd
from sdediff.grids.levels import AtLam

F64 = torch.float64


class Learned(nn.Module, sd.LinearSDE):
    """sigma = rate t: a process that changes while its rate is trained."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(1.0, dtype=F64))

    def alpha(self, t):
        return torch.ones_like(t)

    def sigma(self, t):
        return self.rate * t


def test_equal_grids_of_a_constant_process_are_the_same_levels():
    times = sd.grid("log_snr", sd.VP(), 6)
    row = sd.levels(sd.VP(), times)
    assert sd.levels(sd.VP(), times.clone()) is row
    assert sd.levels(sd.VP(beta_max=19.0), times) is not row
    assert sd.levels(sd.SubVP(), times)[3].sigma != row[3].sigma

    def half(process, t, s):
        return [(t.time + s.time) / 2]

    visited = sd.levels(sd.VP(), times, half)
    assert sd.levels(sd.VP(), times, half) is visited
    assert [len(v.inner) for v in visited] == [0, *[1] * 6]
    assert [len(v.inner) for v in row] == [0] * 7


def test_a_kept_grid_is_nobody_s_to_change():
    times = sd.grid("karras", sd.VP(), 4)
    times[1] = -1.0
    assert sd.grid("karras", sd.VP(), 4)[1] > 0


def test_a_node_by_its_time_is_not_one_by_its_lam():
    times = [1.0, 0.2]
    by_time, by_lam = (sd.levels(sd.VP(), times, lambda *_, k=kind: [k(0.3)])[1].inner[0] for kind in (float, AtLam))
    assert by_time.t == 0.3
    assert by_lam.lam == pytest.approx(0.3)


@pytest.mark.parametrize("sde", [Learned(), sd.VP()], ids=["learned", "frozen"])
def test_what_may_change_is_asked_again(sde):
    learned = isinstance(sde, Learned)
    assert sde.constant is not learned
    model, x = sd.ScoreModel(lambda x, t: x, sde), torch.ones(2, 3, dtype=F64)
    before = sd.sample(model, x=x, solver="deis", steps=4, start=0.9, stop=0.1)
    assert torch.equal(before, sd.sample(model, x=x, solver="deis", steps=4, start=0.9, stop=0.1))
    if learned:
        with torch.no_grad():
            sde.rate.mul_(2.0)
        moved = sd.levels(sde, [0.9, 0.1])
        assert [v.sigma for v in moved] == [1.8, 0.2]
        after = sd.sample(model, x=x, solver="deis", steps=4, start=0.9, stop=0.1)
        assert (after - before).abs().min() > 0.1


@dataclasses.dataclass
class Thawed(sd.LinearSDE):
    """A process that is equal where its rate is, so has no hash."""

    rate: float = 1.0
    alpha, sigma = Learned.alpha, Learned.sigma


def _variants():
    @dataclasses.dataclass(frozen=True)
    class OfTensors(sd.VP):
        scale: tuple = (torch.ones(1),)

    @dataclasses.dataclass(frozen=True)
    class Uncompared(sd.VP):
        rate: float = dataclasses.field(default=1.0, compare=False)

    @dataclasses.dataclass(frozen=True)
    class Initial(sd.VP):
        rate: dataclasses.InitVar[float] = 1.0

        def __post_init__(self, rate):
            object.__setattr__(self, "held", rate)

    @dataclasses.dataclass(frozen=True, init=False)
    class Own(sd.VP):
        def __init__(self, net):
            object.__setattr__(self, "net", net)

    class Sub(sd.VP):
        pass

    return OfTensors(), Uncompared(), Initial(), Own(abs), Thawed(), Sub(), Learned()


@pytest.mark.parametrize("sde", _variants(), ids=lambda v: type(v).__name__)
def test_what_may_hide_a_change_is_not_constant(sde):
    before = dict(vars(sde))
    assert not sde.constant
    assert vars(sde) == before  # asking leaves no trace: a job's manifest reads them


def test_frozen_classes_of_plain_values_are_constant():
    assert all(v.constant for v in (sd.VE(), sd.EDM(), sd.Cosine(), sd.Table.from_sigmas([1.0, 2.0])))


@pytest.mark.parametrize("solver", ["deis", "unipc", "heun", "dpm_solver_2"])
def test_a_process_without_a_hash_is_sampled(solver):
    sde, x = Thawed(), torch.ones(2, 3, dtype=F64)
    model, options = sd.ScoreModel(lambda x, t: x, sde), {"solver": solver, "steps": 4, "start": 0.9, "stop": 0.1}
    before = sd.sample(model, x=x, **options)
    assert torch.equal(before, sd.sample(model, x=x, **options))
    sde.rate = 2.0
    assert (sd.sample(model, x=x, **options) - before).abs().min() > 0.1
