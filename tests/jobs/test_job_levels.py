"""The data-set job on integer levels: dequantised, averaged over draws, bounded."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pyarrow import parquet

import sdediff as sd
from sdediff.datasets import DataSet
from sdediff.jobs import JobError
from sdediff.jobs.scoring import draw_seed, over_draws
from sdediff.jobs.summary import MERGED
from tests.jobs.networks import QUICK, network


def test_integer_data_are_dequantised_and_bytes_have_256_levels(job):
    x = np.arange(24, dtype=np.uint8).reshape(12, 2)
    summary, columns, _ = job(x, micro_batch=12)
    states = DataSet(x, 256).dequantised(seed=0, range=(-1, 1))
    direct = sd.log_likelihood(network(), states, index=list(range(12)), **QUICK)
    assert columns["log_prob"] == direct.log_prob.tolist()
    bits = -direct.log_prob.numpy() / (2 * math.log(2)) + math.log2(256 / 2)
    np.testing.assert_allclose(columns["bits_per_dim"], bits, rtol=1e-12)
    assert summary.bits_per_dim == pytest.approx(bits.mean())
    assert summary.levels == 256


def test_several_draws_are_averaged_as_densities(job):
    x = np.arange(24, dtype=np.uint8).reshape(12, 2)
    summary, columns, _ = job(x, draws=3, micro_batch=12, levels=32, range=(0, 31))
    data, each = DataSet(x, 32, (0, 31)), []
    for seed in (draw_seed(0, draw) for draw in range(3)):
        states = data.dequantised(seed=seed)
        each.append(sd.log_likelihood(network(), states, seed=seed, index=list(range(12)), **QUICK).log_prob.numpy())
    density = np.exp(each).mean(0)
    np.testing.assert_allclose(columns["log_prob"], np.log(density), rtol=1e-10)
    spread = np.exp(each).std(0, ddof=1) / 3**0.5 / density  # of the log of a mean, by the delta method
    np.testing.assert_allclose(columns["dequantisation_error"], spread, rtol=1e-8)
    assert summary.dequantisation_error == pytest.approx(np.sqrt((spread**2).sum()) / 12)
    assert summary.tightening == pytest.approx((np.log(density) - np.mean(each, 0)).mean())
    assert summary.tightening > 0
    assert len({draw_seed(seed, draw) for seed in range(5) for draw in range(5)}) == 25


@pytest.mark.parametrize("options", [{"method": "vlb", "steps": 6}, {"end": "noised", "trace": "exact", "t0": 0.2}])
def test_bounds_of_levels_need_no_dequantisation(job, options):
    x = np.arange(24, dtype=np.uint8).reshape(12, 2)
    quick = {} if "method" in options else QUICK
    model = network()
    summary = sd.likelihood_job(
        model, x, job.out, levels=32, range=(0, 31), micro_batch=4, progress=False, say=lambda _: None,
        **{**quick, **options},
    )  # fmt: skip
    columns = parquet.read_table(job.out / MERGED).to_pydict()
    bins = sd.Discrete(32)
    direct = sd.log_likelihood(
        model, DataSet(x, 32, (0, 31)).tensor(), discrete=bins, micro_batch=4, **{**quick, **options}
    )
    assert columns["log_prob"] == direct.log_prob.tolist()
    np.testing.assert_allclose(columns["bits_per_dim"], -direct.log_prob.numpy() / (2 * math.log(2)), rtol=1e-12)
    assert summary.density == "a bound on p of the data" + (", through x at t0" if "end" in options else "")
    if "method" in options:
        with pytest.raises(JobError, match="has no weights to average: write noises=2"):
            sd.likelihood_job(model, x, job.out / "more", levels=32, range=(0, 31), draws=2, **options)


def test_levels_that_the_noise_at_t0_hides_are_bounded_and_it_is_said(job):
    x = np.arange(24, dtype=np.uint8).reshape(12, 2)
    for t0, density in ((1e-5, "p at 0"), (0.2, "a bound on p of the data, through x at t0")):
        summary, _, said = job(x, f"at {t0}", levels=32, range=(0, 31), t0=t0)
        assert summary.density == density
        assert any("levels wide: the bound end='noised' is reported" in line for line in said) == (t0 == 0.2)
    summary, _, said = job(x, "kept", levels=32, range=(0, 31), t0=0.2, end="t0")
    assert summary.density == "p at t0"
    assert any("end='t0', yet the noise at t0 is" in line for line in said)


def test_errors_of_several_draws_are_weighted(rows):
    x = torch.tensor(rows[:3])
    base = sd.log_likelihood(network(), x, **QUICK)
    parts = [base.with_(log_prob=base.log_prob + shift, std_error=torch.full((3,), error, dtype=torch.float64))
             for shift, error in ((0.0, 0.1), (math.log(3), 0.2))]  # fmt: skip
    found = over_draws(parts)
    torch.testing.assert_close(found["log_prob"], base.log_prob + math.log(2))
    torch.testing.assert_close(found["std_error"], torch.full((3,), math.hypot(0.25 * 0.1, 0.75 * 0.2)).double())
    failed = over_draws([base, base.with_(status=("ok", "step limit", "ok"))])
    assert failed["status"] == ["ok", "step limit", "ok"]


def test_a_network_of_dequantised_data_is_bounded_on_dequantised_levels(job):
    x = np.arange(24, dtype=np.uint8).reshape(12, 2)
    model = replace(network(), card={"data": {"dequantised": True}})
    options = {"method": "vlb", "steps": 6, "micro_batch": 4}
    quiet = {"progress": False, "say": lambda _: None}
    summary = sd.likelihood_job(model, x, job.out, levels=32, range=(0, 31), **quiet, **options)
    assert summary.density == "a bound on p of the dequantised data"
    columns = parquet.read_table(job.out / MERGED).to_pydict()
    noisy = DataSet(x, 32, (0, 31)).dequantised(seed=draw_seed(0, 0))
    direct = sd.log_likelihood(model, noisy, **options)
    assert columns["log_prob"] == direct.log_prob.tolist()
    expected = sd.bits_per_dim(direct, levels=32, range=(-1, 1))
    np.testing.assert_allclose(columns["bits_per_dim"], expected, rtol=1e-12)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.0, 2.0)])
def test_the_range_is_the_checkpoints_own_not_one_that_is_assumed(job, bounds):
    x = np.arange(24, dtype=np.uint8).reshape(12, 2)
    model = replace(network(), card={"data": {"range": list(bounds)}})
    shared = {"levels": 32, "range": (0, 31), "progress": False, "say": lambda _: None}
    sd.likelihood_job(model, x, job.out, micro_batch=4, **shared, **QUICK)
    columns = parquet.read_table(job.out / MERGED).to_pydict()
    noisy = DataSet(x, 32, (0, 31)).dequantised(seed=draw_seed(0, 0), range=bounds)
    direct = sd.log_likelihood(model, noisy, micro_batch=4, **QUICK)
    assert columns["log_prob"] == direct.log_prob.tolist()
    np.testing.assert_allclose(columns["bits_per_dim"], sd.bits_per_dim(direct, levels=32, range=bounds), rtol=1e-12)
