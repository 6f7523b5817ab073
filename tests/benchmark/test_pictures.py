"""The pictures of a sweep beside bench.png, and the figures that they show."""

import dataclasses

import numpy as np
import pytest

from sdediff.benchmark import Quality
from sdediff.benchmark.pictures import against_time, front, orders, ranked
from sdediff.benchmark.plots import draw
from sdediff.benchmark.ranking import places
from sdediff.benchmark.slopes import slope


def like(report, **values):
    row = next(row for row in report.rows if row.solver == "ddim" and row.budget == 12)
    return dataclasses.replace(row, **values)


def rows_of(report, **errors):
    return [
        like(report, solver=name, seeds=3, quality={"error_median": Quality(value, std_error)})
        for name, (value, std_error) in errors.items()
    ]


def test_every_picture_of_a_sweep_is_written(report, tmp_path):
    paths = report.pictures(tmp_path)
    assert [path.name for path in paths] == ["seconds.png", "ranking.png", "orders.png"]  # its samples are no pictures
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 10_000 for path in paths)


def test_a_single_row_of_any_size_can_be_drawn(report):
    for ms in 10 ** np.random.default_rng(0).uniform(-3, 3, 6):
        quality = {name: Quality(float(ms) ** 0.7, None) for name in ("error_median", "energy")}
        rows = [like(report, ms=float(ms), quality=quality)]
        for figure in (against_time(rows, "energy"), orders(rows), ranked(rows, "energy"), draw(rows, "energy")):
            figure.canvas.draw()  # a warning is an error in the tests
            for low, high in (limits for axes in figure.axes for limits in (axes.get_xlim(), sorted(axes.get_ylim()))):
                assert high > low


def test_the_front_holds_what_nothing_as_fast_is_better_than():
    assert front([(3.0, 1.0), (1.0, 4.0), (2.0, 5.0), (2.0, 2.0), (4.0, 1.0), (0.5, -1.0)]) == [
        (1.0, 4.0), (2.0, 2.0), (3.0, 1.0)
    ]  # fmt: skip


def test_places_are_those_that_the_noise_allows(report):
    found = places(rows_of(report, a=(1.0, 0.01), b=(1.02, 0.01), c=(2.0, 0.01), d=(1.9, 0.1)), "error_median")
    assert [(place.label, place.places) for place in found] == [("a", "1-2"), ("b", "1-2"), ("d", "3-4"), ("c", "3-4")]
    # Of three seeds: Student's quantile with two degrees of freedom.
    assert found[0].half_width == pytest.approx(4.3027 * 0.01, rel=1e-4)
    single = places(rows_of(report, a=(1.0, None), b=(1.02, None)), "error_median")
    assert [place.places for place in single] == ["1", "2"]


def test_slopes_are_those_of_the_last_two_budgets():
    assert slope([(5, 7.0), (20, 0.25), (10, 1.0)]) == pytest.approx(2.0)
    assert slope([(5, 7.0)]) is None


def test_rankings_and_times_name_their_solvers(report):
    labels = {text.get_text().split()[0] for text in ranked(report.rows, "energy").axes[0].get_yticklabels()}
    assert labels >= {"ddim", "heun", "rk4"}
    names = {text.get_text() for text in against_time(report.rows, "energy").legends[0].get_texts()}
    assert {"ddim", "ancestral", "ode 0.01"} <= names
