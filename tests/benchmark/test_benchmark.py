"""The sweep of solvers: what it counts, what it writes, what it says."""

import io
import json
import math

import pytest
import torch
from rich.console import Console

import sdediff as sd
from sdediff._utils.files import whole
from sdediff.benchmark import Report, SolverResult, Task, plots
from sdediff.nets import MLP

SOLVERS = {
    "ddim": sd.solver("ddim"),
    "heun": sd.solver("heun"),
    "ancestral": sd.solver("ancestral"),
    "rk4": sd.solver("rk4"),
    "ode": sd.solver("ode"),
}


@pytest.fixture(scope="module")
def report():
    return sd.bench(["target_m", "ring"], SOLVERS, (4, 12), tolerances=(1e-2, 1e-4), samples=100, distance="energy")


def rows(report, solver, task="target_m"):
    return [row for row in report.rows if (row.solver, row.task) == (solver, task)]


def test_calls_are_those_counted(report):
    assert [row.calls for row in rows(report, "ddim")] == [4, 12]
    assert [row.calls for row in rows(report, "heun")] == [3, 11]
    assert [row.steps for row in rows(report, "heun")] == [1, 5]
    loose, tight = rows(report, "ode")
    assert (loose.budget, tight.budget) == (1e-2, 1e-4)
    assert 10 < loose.calls < tight.calls


def test_budget_that_is_too_small_is_listed_with_the_reason(report):
    assert {(skip.solver, skip.budget) for skip in report.skipped} == {("rk4", 4)}
    assert "needs at least 5" in report.skipped[0].reason
    assert [row.budget for row in rows(report, "rk4")] == [12]


def test_error_belongs_to_the_flow_alone_and_falls(report):
    assert all(row.error is None for row in rows(report, "ancestral"))
    for name in ("ddim", "heun", "ode"):
        few, many = rows(report, name)
        assert many.error < few.error
    assert rows(report, "ode")[1].error < 1e-3


def test_error_is_the_median_distance_to_the_flow_from_the_same_noise(report):
    model = sd.target("target_m").model(sd.VP())
    x = sd.sample(model, (32, 2), solver="ddim", calls=12)
    fine = sd.sample(model, (32, 2), solver="heun", steps=400, dtype=torch.float64)
    gap = ((x - fine).square().mean(1)).sqrt().median().item()
    assert rows(report, "ddim")[1].error == pytest.approx(gap, rel=1e-3)


def test_distance_falls_towards_that_of_real_data(report):
    floor = {f.task: f for f in report.floors}["target_m"]
    assert abs(floor.distance) < 4 * floor.distance_error
    few, many = rows(report, "ddim")
    assert few.distance > many.distance
    assert few.distance_error > 0


def test_times_are_positive_and_no_less_than_the_networks_own(report):
    for row in report.rows:
        assert row.ms > 0
        assert row.ratio >= 1


def test_samples_do_not_depend_on_the_batch():
    runs = [
        sd.bench(["ring"], ["ancestral"], (5,), samples=60, batch=b, distance="energy").rows[0].distance
        for b in (60, 7)
    ]
    assert runs[0] == pytest.approx(runs[1], rel=1e-4)


def test_report_comes_back_from_its_file(report, tmp_path):
    path = report.save(tmp_path / "new folder" / "bench.json")
    assert Report.load(path) == report
    text = json.loads(path.read_text())
    assert text["settings"]["solvers"]["heun"] == "RungeKutta(method='heun', variable='t')"
    assert "VP(beta_min=0.1" in text["settings"]["tasks"]["ring"]["model"]
    assert text["versions"]["torch"] == torch.__version__
    assert {"cpu", "cores", "threads", "platform", "date"} <= set(text["machine"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9}', '{"format": 2, "rows": [{}]}'])
def test_load_names_a_file_that_is_no_report(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json: not a report"):
        Report.load(path)


def test_table_holds_every_row_within_eighty_columns(report):
    out = io.StringIO()
    Console(file=out, width=80).print(report.table())
    lines = out.getvalue().splitlines()
    assert sum(any(line.startswith(f" {name} ") for name in SOLVERS) for line in lines) == len(report.rows)
    assert sum("real data" in line for line in lines) == 2
    assert "\u2026" not in out.getvalue()


def test_plot_draws_every_solver_and_the_floor(report, tmp_path):
    path = report.plot(tmp_path / "bench.png")
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) > 20_000
    figure = plots.draw(report.rows, report.floors)
    panels = figure.axes
    assert len(panels) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [n for n in SOLVERS]
    assert panels[0].get_title() == "target_m"
    flow = [line for line in panels[0].lines if len(line.get_xdata()) == 2]
    assert {tuple(line.get_xdata()) for line in flow} >= {(4.0, 12.0), (3.0, 11.0)}


def test_what_diverges_is_drawn_at_the_edge(report):
    wild = SolverResult("ring", "wild", "Wild()", "uniform", 3, 4, 4, 1e9, 1e12, 1.0, 1.0, 1.0)
    figure = plots.draw((*report.rows, wild), report.floors)
    assert all(axes.get_ylim()[1] < 1e8 for axes in figure.axes)
    assert sum(text.get_text() == "at this edge: larger still" for a in figure.axes for text in a.texts) == 2


def test_a_network_that_gives_nan_is_named_with_the_step():
    task = Task("blows up", sd.ScoreModel(lambda x, t: x / 0, sd.VP()), torch.randn(50, 2), torch.randn(50, 2))
    with pytest.raises(sd.Error, match=r"nothing could run: Ancestral.* reached NaN or infinity in step 1"):
        sd.bench([task], ["ancestral"], (4,), samples=20, distance="energy")


def test_own_task_with_a_network(tmp_path):
    model = sd.ScoreModel(MLP(2, width=8, blocks=1).eval(), sd.VE(sigma_max=5.0))
    data = sd.target("ring").sample(80)
    found = sd.bench([Task("mine", model, data, data.flip(0), 40)], ["dpmpp_2m"], (5,), distance="energy", check=False)
    assert [(row.task, row.calls, row.grid) for row in found.rows] == [("mine", 5, "log_snr")]
    assert found.rows[0].error > 0
    assert "MLP of " in found.settings["tasks"]["mine"]["model"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": ["gmm46"]}, "gmm64"),
        ({"tasks": [3]}, "a task is a name"),
        ({"solvers": ["hun"]}, "heun"),
        ({"distance": "fr\u00e9chet"}, "unknown distance"),
        ({"distance": "frechett"}, "frechet"),
        ({"samples": 5}, "samples=5 of ring"),
        ({"samples": 0}, "must be positive"),
        ({"batch": 0}, "must be positive"),
        ({"solvers": ["heun"], "calls": (1,)}, "nothing could run"),
        ({"solvers": []}, "give solvers"),
    ],
)
def test_refusals_say_what_is_wrong(options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        sd.bench(**{"tasks": ["ring"], "solvers": ["ddim"], "calls": (4,), "samples": 40, **options})


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def torn():
        with whole(path) as unfinished:
            unfinished.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        torn()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_default_solvers_are_ten_or_more_and_all_serve_the_default_budgets():
    names = sd.benchmark.DEFAULT_SOLVERS
    assert len(names) >= 10
    for name, options in names.items():
        made = sd.solver(name, **options)
        assert made.calls is None or math.floor((5 - 1) / made.calls) >= 1


def test_threads_are_chosen_for_the_sweep_and_left_as_they_were(report):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = sd.bench(["ring"], ["ddim"], (4,), samples=40, distance="energy")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found.settings["tasks"]["ring"]["threads"] in (1, 2)
    assert report.settings["tasks"]["ring"]["threads"] == before
