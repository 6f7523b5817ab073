"""Two results compared: a planted regression is named, noise is not called a change."""

import dataclasses
import json
import math

import numpy as np
import pytest

import sdediff as sd
from sdediff.benchmark import Report, compare
from sdediff.benchmark.significance import Noisy, difference, holm, noisy
from sdediff.cli import main
from tests.benchmark.small import tiny


@dataclasses.dataclass(frozen=True)
class AB2(sd.Solver):
    """Two-step Adams-Bashforth of the flow; `weight` is 1."""

    weight: float = 1.0
    order = 2
    grid = "log_snr"

    def step(self, model, x, t, s, state, noise):
        dt, v = s.time - t.time, model(x, t).velocity
        dt_last, v_last = state or (dt, v)
        return x + dt * (v + self.weight * (v - v_last) * dt / (2 * dt_last)), (dt, v)


def swept(weight=1.0, seeds=3, seed=0, out=None, **options):
    solvers = {"ab2": AB2(weight), "ddim": sd.solver("ddim")}
    return tiny(out, solvers=solvers, calls=(8, 16), samples=60, seeds=seeds, seed=seed, **options)


@pytest.fixture(scope="module")
def right():
    return swept()


def part(report, seeds):
    return Report(tuple(c for c in report.cells if c.seed in seeds), report.settings)


def test_a_wrong_coefficient_is_caught_and_named(right):
    found = compare(right, swept(0.5))
    assert {change.solver for change in found.regressions} == {"ab2"}
    assert {change.budget for change in found.regressions} >= {16}
    assert "error_median" in {change.quality for change in found.regressions}
    assert "target_m, ab2 at 16 calls: error_median" in "\n".join(map(str, found.regressions))
    assert not found.improvements
    turned = compare(swept(0.5), right)
    assert {change.solver for change in turned.improvements} == {"ab2"}
    assert not turned.regressions


def test_the_same_run_twice_has_not_changed(right):
    found = compare(right, swept())
    assert all(change.p == 1 and change.verdict == "unchanged" for change in found.changes)
    assert "0 worse, 0 better" in str(found)


@pytest.mark.slow
def test_other_seeds_are_noise_in_nineteen_of_twenty_tries():
    many, wrong = swept(seeds=40), 0
    for i in range(20):
        a, b = part(many, (2 * i, 2 * i + 1)), part(many, ((2 * i + 2) % 40, (2 * i + 3) % 40))
        found = compare(a, b, level=0.05)
        wrong += bool(found.regressions or found.improvements)
    assert wrong <= 1


def test_noise_is_called_a_change_no_oftener_than_stated(right):
    """Log-normal errors of 100 samples under other seeds, eight budgets, a hundred pairs of runs."""
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(100):
        a, b = (Report(tuple(drawn_cells(rng, seeds)), right.settings) for seeds in ((0, 1, 2), (3, 4, 5)))
        found = compare(a, b, level=0.05)
        wrong += bool(found.regressions or found.improvements)
    # Less than once in a million more than 17 of 100 at 0.05.
    assert wrong <= 17


def drawn_cells(rng, seeds, n=100):
    for budget in range(8):
        for seed in seeds:
            e = np.exp(0.7 * rng.standard_normal(n) - budget)
            median, q90, q99 = np.quantile(e, (0.5, 0.9, 0.99))
            yield dataclasses.replace(
                swept_cell(n), task="t", library="sdediff", solver="s", budget=budget, seed=seed, calls=budget,
                error_median=median, error_q90=q90, error_q99=q99, error_rms=math.sqrt((e**2).mean()),
                other_mode=rng.binomial(n, 0.05) / n,
            )  # fmt: skip


def test_equal_starts_make_a_smaller_change_visible(right):
    """Rounding is no change, and a change of the coefficient by a quarter is one though other seeds would hide it."""
    tiny_change = compare(right, swept(1 + 1e-7))
    assert not tiny_change.regressions
    assert not tiny_change.improvements


def test_what_does_not_run_any_more_is_worse(right):
    broken = {"status": "failed: broken", "grid": None}
    cells = [dataclasses.replace(c, **broken) if c.solver == "ddim" else c for c in right.cells]
    found = compare(right, Report(tuple(cells), right.settings))
    assert {(c.solver, c.quality, c.after) for c in found.regressions} == {("ddim", "runs", None)}
    assert "does not run" in str(found.regressions[0])


def test_more_calls_than_before_are_worse(right):
    cells = [dataclasses.replace(c, calls=c.calls + 1) if c.solver == "ddim" else c for c in right.cells]
    found = compare(right, Report(tuple(cells), right.settings))
    assert {(c.solver, c.quality) for c in found.regressions} == {("ddim", "calls")}


def test_what_is_in_one_alone_is_listed(right):
    less = Report(tuple(c for c in right.cells if c.solver != "ddim"), right.settings)
    found = compare(right, less)
    assert {key[2] for key in found.only_in_a} == {"ddim"}
    assert found.only_in_b == ()
    with pytest.raises(ValueError, match="no solver at the same task"):
        compare(less, Report(tuple(c for c in right.cells if c.solver == "ddim"), right.settings))
    with pytest.raises(ValueError, match=r"level=1\.0"):
        compare(right, right, level=1.0)


def test_more_precision_is_better(right):
    def with_precision(value):
        cells = [dataclasses.replace(c, distances={"precision": (value, 0.01)}) for c in right.cells]
        return Report(tuple(cells), right.settings)

    found = compare(with_precision(0.5), with_precision(0.9))
    assert {c.quality for c in found.improvements} == {"precision"}
    assert not found.regressions


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_paired_and_unpaired_tests_are_students(right):
    from scipy import stats

    a, b = ({k: Noisy(v, 0.0) for k, v in enumerate(values)} for values in ([1.0, 2.0, 4.0], [1.5, 2.2, 4.9]))
    paired = difference(a, b)
    gaps = np.array([0.5, 0.2, 0.9])
    t = gaps.mean() / math.sqrt(gaps.var(ddof=1) * 2 / 14 / 3)
    assert paired.change == pytest.approx(gaps.mean())
    assert paired.p == pytest.approx(2 * stats.t.sf(t, 14))
    other = difference(a, {k + 10: v for k, v in b.items()})
    pooled = (np.var([1, 2, 4], ddof=1) + np.var([1.5, 2.2, 4.9], ddof=1)) * 2 / 16
    assert other.p == pytest.approx(2 * stats.t.sf(gaps.mean() / math.sqrt(pooled * 2 / 3), 16))


def test_the_noise_of_an_error_is_that_of_log_normal_samples():
    rng, n = np.random.default_rng(0), 200
    found = []
    for _ in range(400):
        e = np.exp(0.8 * rng.standard_normal(n) - 3)
        found.append((np.median(e), *np.quantile(e, (0.9, 0.99)), math.sqrt((e**2).mean())))
    base = swept_cell(n)
    for name, column in (("error_median", 0), ("error_rms", 3)):
        spread = np.log([row[column] for row in found]).std()
        stated = [
            noisy(dataclasses.replace(base, error_median=r[0], error_q90=r[1], error_q99=r[2], error_rms=r[3]), name)
            for r in found
        ]
        assert 0.8 < math.sqrt(np.median([s.variance for s in stated])) / spread < 2.0


def swept_cell(samples):
    from sdediff.benchmark import Cell

    names = [f.name for f in dataclasses.fields(Cell)]
    return Cell(**{**dict.fromkeys(names), "status": "ok", "samples": samples, "distances": {}})


def test_the_command_exits_with_one_on_a_regression(tmp_path, capsys):
    folders = {weight: tmp_path / f"{weight}" for weight in (1.0, 0.5)}
    for weight, folder in folders.items():
        swept(weight, out=folder)

    def run(*words):
        capsys.readouterr()
        code = main(["compare", *map(str, words)])
        return code, *capsys.readouterr()

    code, out, _ = run(folders[1.0], folders[0.5])
    assert code == 1
    assert "ab2" in out
    assert "worse" in out
    code, out, _ = run(folders[0.5], folders[1.0], "--json")
    assert code == 0
    assert {c["solver"] for c in json.loads(out)["changes"] if c["verdict"] == "better"} == {"ab2"}
    code, _, err = run(folders[1.0], tmp_path / "none")
    assert code == 2
    assert "B:" in err
    assert len(err.splitlines()) == 1
