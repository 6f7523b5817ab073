"""The rows of a sweep: what is counted, and every quality against an independent computation."""

import time

import numpy as np
import pytest
import torch
from pyarrow import parquet

import sdediff as sd
from sdediff.benchmark import COLUMNS, TIMES
from sdediff.metrics import energy_distance
from tests.benchmark.small import SOLVERS, tiny


def cells(report, solver, seed=0):
    return [c for c in report.cells if (c.solver, c.seed) == (solver, seed) and c.status == "ok"]


def rows(report, solver):
    return [row for row in report.rows if row.solver == solver]


def test_columns_are_those_of_the_list(folder):
    names = parquet.read_schema(folder / "cells.parquet").names
    assert names == [*COLUMNS, "energy", "energy_se", "energy_low", "energy_high"]
    assert parquet.read_schema(folder / "times.parquet").names == ["index", *TIMES]


def test_every_solver_runs_at_every_budget_from_every_seed(report):
    assert [cell.index for cell in report.cells] == list(range(2 * (1 + 4 * 2 + 1)))
    assert {cell.seed for cell in report.cells} == {0, 1}
    assert {cell.solver for cell in report.cells} == {"real data", *SOLVERS}


def test_calls_are_those_counted(report):
    assert [row.calls for row in rows(report, "ddim")] == [4, 12]
    assert [row.calls for row in rows(report, "heun")] == [3, 11]
    assert [row.steps for row in rows(report, "heun")] == [1, 5]
    assert [(row.budget, row.tolerance) for row in rows(report, "ode")] == [(None, 1e-2)]
    assert rows(report, "ode")[0].calls > 12


def test_a_budget_that_is_too_small_is_a_row_with_its_reason(report):
    assert {(cell.solver, cell.budget) for cell in report.skipped} == {("rk4", 4)}
    assert all(cell.status.startswith("refused: calls=4") for cell in report.skipped)
    assert [row.budget for row in rows(report, "rk4")] == [12]


def test_errors_are_distances_to_the_flow_from_the_same_starts(report):
    target = sd.target("target_m")
    model = target.model(sd.VP())
    for seed in (0, 1):
        cell = cells(report, "ddim", seed)[1]
        x = sd.sample(model, (40, 2), solver="ddim", calls=12, seed=seed)
        fine = sd.sample(model, (40, 2), solver="heun", steps=400, seed=seed, dtype=torch.float64)
        gap = (x - fine).square().mean(1).sqrt().numpy()
        expected = [np.median(gap), np.quantile(gap, 0.9), np.quantile(gap, 0.99), np.sqrt(np.mean(gap**2))]
        given = [cell.error_median, cell.error_q90, cell.error_q99, cell.error_rms]
        np.testing.assert_allclose(given, expected, rtol=2e-3)
        nearest = [(v.double()[:, None] - target.means).square().sum(2).argmin(1) for v in (x, fine)]
        assert cell.other_mode == pytest.approx((nearest[0] != nearest[1]).double().mean().item())


def test_distances_are_those_of_the_metrics_to_the_true_samples(report):
    target = sd.target("target_m")
    x = sd.sample(target.model(sd.VP()), (40, 2), solver="ancestral", calls=12, seed=1)
    expected = energy_distance(x, target.sample(4000))
    assert cells(report, "ancestral", 1)[1].distances["energy"] == pytest.approx(
        (expected.value, expected.std_error), rel=1e-6
    )


def test_intervals_of_distances_are_those_of_the_metrics(report, folder):
    target = sd.target("target_m")
    stored = parquet.read_table(folder / "cells.parquet").to_pylist()
    for cell in cells(report, "ancestral", 1):
        x = sd.sample(target.model(sd.VP()), (40, 2), solver="ancestral", calls=cell.budget, seed=1)
        given = stored[cell.index]["energy_low"], stored[cell.index]["energy_high"]
        assert given == pytest.approx(energy_distance(x, target.sample(4000)).interval, rel=1e-6)
        assert given[0] <= cell.distances["energy"][0] <= given[1]


def test_a_stochastic_solver_has_no_error_and_real_data_the_least_distance(report):
    assert all(cell.error_median is None and cell.stochastic for cell in cells(report, "ancestral"))
    real = rows(report, "real data")[0]
    assert real.calls == 0
    for cell in cells(report, "real data"):
        value, error = cell.distances["energy"]
        assert abs(value) < 5 * error


def test_auto_is_a_solver_whose_choice_is_not_timed(monkeypatch):
    def slow(model, shape, **options):
        asked.append((shape, options["calls"]))
        time.sleep(0.3)
        return sd.solver("dpmpp_2m"), sd.grid("log_snr", model.sde, 4)

    asked = []
    monkeypatch.setattr("sdediff.benchmark.chosen.auto", slow)
    report = tiny(None, solvers=["auto", "dpmpp_2m"], calls=(5,))
    auto, ours = (rows(report, name)[0] for name in ("auto", "dpmpp_2m"))
    assert asked == [((1, 2), 5)]
    assert (auto.calls, auto.steps, auto.grid) == (5, 4, "auto")
    assert auto.remark == "chose " + repr(sd.solver("dpmpp_2m"))
    assert auto.quality["error_rms"].value == pytest.approx(ours.quality["error_rms"].value, rel=1e-3)
    assert auto.ms * auto.samples / auto.seeds < 200


def test_rows_hold_the_mean_over_seeds_and_its_standard_error(report):
    few, many = rows(report, "ddim")
    values = [cell.error_median for seed in (0, 1) for cell in cells(report, "ddim", seed)[:1]]
    assert few.quality["error_median"].value == pytest.approx(np.mean(values))
    assert few.quality["error_median"].std_error == pytest.approx(np.std(values, ddof=1) / np.sqrt(2))
    assert many.error < few.error
    assert (few.seeds, few.samples) == (2, 80)


def test_times_are_positive_and_no_less_than_the_network_s_own(report):
    for cell in report.cells:
        if cell.status == "ok" and cell.calls:
            assert cell.seconds >= cell.network_seconds > 0
            assert cell.ratio >= 1
            assert (cell.cpu, cell.peak_bytes) == (report.circumstances["machine"]["cpu"], None)


def test_precision_and_coverage_stand_beside_a_distance():
    found = tiny(None, solvers=["ddim"], distances=["energy", "precision", "coverage[pixels]"], seeds=1)
    row = next(row for row in found.rows if row.solver == "ddim")
    assert 0 <= row.quality["precision"].value <= 1
    assert 0 <= row.quality["coverage[pixels]"].value <= 1
    with pytest.raises(ValueError, match="grows with quality"):
        tiny(None, solvers=["ddim"], distances=["precision", "energy"])
