"""The table and the picture of a sweep."""

import dataclasses
import io

import pytest
from rich.console import Console

from sdediff.benchmark import Quality, Report, plots
from tests.benchmark.small import SOLVERS


def test_table_holds_every_row_within_eighty_columns(report):
    out = io.StringIO()
    Console(file=out, width=80).print(report.table())
    lines = out.getvalue().splitlines()
    assert sum(any(line.startswith(f" {name} ") for name in SOLVERS) for line in lines) == len(report.rows) - 1
    assert sum("target_m: real data" in line for line in lines) == 1
    assert "\u2026" not in out.getvalue()
    assert "standard error over 2 seeds" in out.getvalue()


def test_quality_shows_one_digit_of_its_error():
    assert str(Quality(0.4681, 0.0063)) == "0.468+-0.006"
    assert str(Quality(1.76e-5, 4e-6)) == "1.8e-05+-4e-06"
    assert str(Quality(0.0541234, 8e-5)) == "0.05412+-0.00008"
    assert str(Quality(0.123, None)) == "0.12"
    assert str(Quality(float("inf"), 1.0)) == "not finite"


def test_plot_draws_every_solver_and_the_floor(report, tmp_path):
    path = report.plot(tmp_path / "bench.png")
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) > 20_000
    figure = plots.draw(report.rows, "energy")
    panels = figure.axes
    assert len(panels) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == SOLVERS
    assert panels[0].get_title() == "target_m"
    lines = [line for line in panels[0].lines if len(line.get_xdata()) == 2]
    assert {tuple(line.get_xdata()) for line in lines} >= {(4.0, 12.0), (3.0, 11.0)}


def test_what_diverges_is_drawn_at_the_edge(report):
    first = next(row for row in report.rows if row.solver == "ddim")
    quality = {"error_median": Quality(1e9, None), "energy": Quality(1e12, 1.0)}
    figure = plots.draw((*report.rows, dataclasses.replace(first, solver="wild", quality=quality)), "energy")
    assert all(axes.get_ylim()[1] < 1e8 for axes in figure.axes)
    assert sum(text.get_text() == "at this edge: larger still" for a in figure.axes for text in a.texts) >= 1


def test_load_names_a_folder_that_holds_no_sweep(tmp_path):
    with pytest.raises(ValueError, match="not a result of sdediff bench"):
        Report.load(tmp_path)


def test_a_solver_on_several_grids_is_several_lines(report):
    twice = [dataclasses.replace(row, grid="karras") for row in report.rows if row.solver == "ddim"]
    figure = plots.draw((*report.rows, *twice), "energy")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["ddim uniform", *SOLVERS[1:], "ddim karras"]
