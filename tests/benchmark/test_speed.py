"""Times beside the bare network: turns, counts and ratios, by a clock of the test's own."""

import json
from typing import ClassVar

import pytest
import torch

import sdediff as sd
from sdediff.benchmark import speeds
from sdediff.benchmark.clocks import Clock, EventClock
from sdediff.benchmark.watching import NetworkWatch
from sdediff.cli import main


class Ticks(Clock):
    """Time is the number of network evaluations, and one more for every mark."""

    def __init__(self):
        self.now = 0

    def mark(self):
        self.now += 1
        return float(self.now)


@pytest.fixture
def model():
    return sd.target("ring").model(sd.VP())


def test_every_solver_meets_as_many_bare_evaluations(model):
    clock, evaluated = Ticks(), []

    def net(x, t):
        clock.now += 10
        evaluated.append(len(x))
        return model.net(x, t)

    found = speeds(model.map_net(lambda _: net), ["ddim", "heun"], (3, 2), 6, repeats=2, clock=clock)
    assert [(row.solver, row.mode, row.calls, row.batch) for row in found.rows] == [
        ("ddim", "eager", 6, 3), ("ddim", "Sampler", 6, 3), ("heun", "eager", 5, 3), ("heun", "Sampler", 5, 3)
    ]  # fmt: skip
    assert all(row.ratio == 1.0 and row.low == row.high == 1.0 for row in found.rows)
    assert [row.ms for row in found.rows] == [61e3, 61e3, 51e3, 51e3]
    # Each once counted and three rounds of it and of the bare network; one trial of the network.
    assert len(evaluated) == 1 + (1 + 3 * 2) * 2 * (6 + 5)


def test_times_are_medians_of_rounds_in_turns(model):
    found = speeds(model, {"two": "ddim"}, (8, 2), 5, modes=["Sampler"], repeats=5)
    [row] = found.rows
    assert row.solver == "two"
    assert 0 < row.low <= row.ratio <= row.high
    assert row.peak_bytes is None
    assert repr(found) == "Speeds(1 rows on cpu)"


def test_what_cannot_be_timed_is_refused(model):
    with pytest.raises(ValueError, match="give a list of eager, Sampler, compiled"):
        speeds(model, ["ddim"], (2, 2), 4, modes=["fast"])
    with pytest.raises(ValueError, match="ode chooses its network evaluations itself"):
        speeds(model, ["ode"], (2, 2), 4)


class Event:
    """What the clock asks of torch.cuda: events that are recorded on a stream and read after the last one."""

    log: ClassVar[list[tuple[str, object]]] = []

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, stream):
        self.at = len(Event.log)
        Event.log.append(("record", stream))

    def synchronize(self):
        Event.log.append(("wait", self.at))

    def elapsed_time(self, end):
        return 1000.0 * (end.at - self.at)


class Cuda:
    Event = Event

    @staticmethod
    def current_stream(device):
        return f"stream of {device}"


def test_on_cuda_a_network_is_timed_by_events_without_waiting_in_between():
    Event.log.clear()
    clock = EventClock(torch.device("cuda"), Cuda)
    watched = NetworkWatch(torch.device("cuda"), clock)
    net = watched.wrap(lambda x, t: x)
    began = clock.mark()
    for _ in range(3):
        net(torch.zeros(2, 1), 0.5)
    end = clock.mark()
    assert [kind for kind, _ in Event.log] == ["record"] * 8
    assert watched.seconds == 3.0
    assert clock.total([(began, end)]) == 7.0
    assert Event.log[8:] == [("wait", 6), ("wait", 7)]
    assert watched.rows == 6


def test_the_command_prints_ratios(capsys):
    line = ["speed", "digits-vp", "--solvers", "ddim", "--calls", "2", "--batch", "1", "--repeats", "1"]
    assert main([*line, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["mode"] for row in rows] == ["eager", "Sampler"]
    assert main([*line, "--modes", "fast"]) == 2
    assert "--modes" in capsys.readouterr().err
