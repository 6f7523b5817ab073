"""The data-set job: values, data of every kind, errors of the mean, what is refused, and what is written."""

import json
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from pyarrow import parquet

import sdediff as sd
from sdediff.datasets import DataError, DataSet
from sdediff.jobs import JobError, paired
from sdediff.jobs.inputs import data_hash, data_set
from sdediff.jobs.manifest import described
from sdediff.jobs.scoring import draw_seed, over_draws
from sdediff.jobs.shards import MERGED
from sdediff.model.score_model.score_model import ModelError
from sdediff.nets import MLP

QUICK = {"trace": "exact", "rtol": 1e-2, "atol": 1e-2}


def network(dims=2, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return sd.ScoreModel(MLP(dims, width=8, blocks=1).eval().to(dtype), sd.VP())


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(11, 2)).astype(np.float32)


@pytest.fixture
def job(tmp_path):
    """job(data, folder="out", model=..., **options) -> (summary, columns, lines said), quick by default."""

    def job(data, folder="out", model=None, **options):
        said = []
        given = {"micro_batch": 4, "progress": False, **QUICK, **options}
        summary = sd.likelihood_job(model or network(), data, tmp_path / folder, say=said.append, **given)
        return summary, parquet.read_table(tmp_path / folder / MERGED).to_pydict(), said

    job.out = tmp_path / "direct"
    return job


def test_values_are_those_of_log_likelihood_each_row_once_and_the_tail_kept(job, rows):
    summary, columns, said = job(rows)
    assert columns["index"] == list(range(11))
    parts = [
        sd.log_likelihood(network(), torch.tensor(rows[i : i + 4]), index=list(range(i, min(i + 4, 11))), **QUICK)
        for i in (0, 4, 8)
    ]
    assert columns["log_prob"] == [v for part in parts for v in part.log_prob.tolist()]
    assert columns["calls"] == [v for part in parts for v in part.calls.tolist()]
    norms = [row.norm().item() for part in parts for row in part.latent.double()]
    np.testing.assert_allclose(columns["latent_norm"], norms, rtol=1e-12)
    assert (summary.samples, summary.left_out, summary.bits_per_dim, said) == (11, 0, None, [])


@pytest.mark.parametrize("micro_batch", [1, 7, 64])
def test_micro_batches_agree_in_float64(job, rows, micro_batch):
    model = network(dtype=torch.float64)
    options = {"trace": "hadamard", "probes": 2, "frozen": True, "model": model}
    one = job(rows, "one", **options)[1]
    other = job(rows, "other", micro_batch=micro_batch, **options)[1]
    np.testing.assert_allclose(one["log_prob"], other["log_prob"], atol=1e-9, rtol=0)


def test_means_and_their_errors(job, rows):
    summary, columns, _ = job(rows, trace="hadamard", probes=2, method="two_pass")
    values, errors = np.array(columns["log_prob"]), np.array(columns["std_error"])
    assert summary.log_prob == pytest.approx(values.mean(), rel=1e-12)
    assert summary.log_prob_std_error == pytest.approx(values.std(ddof=1) / 11**0.5, rel=1e-12)
    assert summary.probe_error == pytest.approx(np.sqrt((errors**2).sum()) / 11, rel=1e-12)
    assert summary.solver_error == pytest.approx(np.abs(columns["solver_error"]).mean(), rel=1e-12)
    assert summary.t0 is not None
    assert (summary.method, summary.settings["trace"], summary.settings["seed"]) == ("two_pass", "hadamard", 0)


def test_data_of_every_kind_gives_the_same_values(job, rows, tmp_path):
    import pyarrow as pa

    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "a.npz", x=rows)
    parquet.write_table(pa.table({"a": rows[:, 0], "b": rows[:, 1]}), tmp_path / "a.parquet")
    labelled = torch.utils.data.TensorDataset(torch.tensor(rows), torch.zeros(11))
    kinds = [torch.tensor(rows), DataSet(rows), labelled, tmp_path / "a.npy", str(tmp_path / "a.npz"),
             tmp_path / "a.parquet"]  # fmt: skip
    expected = job(rows, "array")[1]["log_prob"]
    for number, data in enumerate(kinds):
        assert job(data, f"kind{number}")[1]["log_prob"] == expected
    assert job(labelled, "few", limit=3)[1]["index"] == [0, 1, 2]


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


def test_conditions_of_as_many_rows_go_by_row(job, rows):
    class Pulled(torch.nn.Module):
        def forward(self, x, t, centre, width):
            return (x - centre) * width

    model = sd.ScoreModel(Pulled(), sd.VP())
    cond = {"centre": torch.linspace(-1, 1, 11)[:, None], "width": torch.tensor(0.5)}
    _, columns, _ = job(rows, model=model, cond=cond)
    direct = sd.log_likelihood(model, torch.from_numpy(rows), cond=cond, micro_batch=4, **QUICK)
    np.testing.assert_allclose(columns["log_prob"], direct.log_prob, rtol=0, atol=1e-9)
    with pytest.raises(JobError, match=r"settings\.cond"):
        job(rows, model=model, cond={**cond, "width": torch.tensor(0.6)})


def test_a_sample_that_needs_more_steps_than_are_allowed_is_counted_and_left_out(job, rows):
    class Ripples(torch.nn.Module):
        def forward(self, x, t):
            wild = (x[:, :1] > 8).to(x)
            return x + wild * torch.sin(300 * x)

    hard = rows.copy()
    hard[5, 0] = 12.0
    model = sd.ScoreModel(Ripples(), sd.VP())
    summary, columns, _ = job(hard, model=model, rtol=1e-4, atol=1e-4, max_steps=25)
    assert columns["status"] == ["step limit" if i == 5 else "ok" for i in range(11)]
    assert summary.statuses == {"ok": 10, "step limit": 1}
    assert summary.left_out == 1
    assert summary.log_prob == pytest.approx(np.delete(columns["log_prob"], 5).mean())


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


def test_bad_rows_are_named_the_others_scored_and_the_mean_refused(job, rows):
    clean = job(rows, "clean", model=network(dtype=torch.float64))[1]["log_prob"]
    rows[5, 1] = np.nan
    rows[8] = np.inf
    summary, columns, _ = job(rows, model=network(dtype=torch.float64))
    assert "row 5 holds NaN or Inf (2 such rows of 11)" in summary.refused
    assert (summary.log_prob, summary.bad_rows, summary.left_out) == (None, (5, 8), 2)
    assert [i for i, v in enumerate(columns["log_prob"]) if v is None] == [5, 8]
    assert {columns["status"][i] for i in (5, 8)} == {"bad row"}
    good = [i for i in range(11) if i not in (5, 8)]
    np.testing.assert_allclose([columns["log_prob"][i] for i in good], [clean[i] for i in good], atol=1e-9)
    again, _, said = job(rows, model=network(dtype=torch.float64), skip_bad=True)
    assert again.refused is None
    assert again.log_prob == pytest.approx(np.mean([clean[i] for i in good]))
    assert said == ["begun before: all 11 samples are done"]


def test_a_sample_on_which_the_network_fails_is_flagged_and_left_out(job, rows):
    rows[6] = 50.0
    inner = network()

    class Failing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = inner.net

        def forward(self, x, t):
            far = (x.abs().amax(1, keepdim=True) > 30).to(x.dtype)
            return self.net(x, t) * torch.where(far > 0, torch.nan, 1.0)

    fails = sd.ScoreModel(Failing().eval(), inner.sde)
    summary, columns, _ = job(rows, model=fails)
    assert "t=" in columns["status"][6] or "finite" in columns["status"][6]
    assert [word for i, word in enumerate(columns["status"]) if i != 6] == ["ok"] * 10
    assert (summary.left_out, columns["log_prob"][6]) == (1, None)
    assert summary.log_prob == pytest.approx(np.mean([v for v in columns["log_prob"] if v is not None]))
    assert sum(summary.statuses.values()) == 11


@pytest.mark.parametrize("shape", [(1, 2), (5, 1), (5,), (2, 1, 4, 4)])
def test_one_sample_and_one_dimension(job, shape):
    x = np.random.default_rng(1).normal(size=shape)
    summary, columns, _ = job(x, model=network(max(1, math.prod(shape[1:]))))
    assert len(columns["index"]) == shape[0]
    assert math.isfinite(summary.log_prob)
    assert (summary.log_prob_std_error is None) == (shape[0] == 1)


REFUSED = [
    (lambda rows: {"data": rows[:0]}, DataError, "empty"),
    (lambda rows: {"data": []}, DataError, "empty"),
    (lambda rows: {"data": 3}, DataError, "torch Dataset"),
    (lambda rows: {"data": rows, "levels": 4, "range": (0, 3)}, DataError, r"\[0, 3\]"),
    (lambda rows: {"data": DataSet(rows), "levels": 4}, DataError, "leave levels="),
    (lambda rows: {"data": rows, "draws": 2}, JobError, "continuous"),
    (lambda rows: {"data": rows, "draws": 0}, JobError, "draws=0"),
    (lambda rows: {"data": rows, "shard": 6}, JobError, "write 8"),
    (lambda rows: {"data": rows, "limit": 0}, DataError, "limit=0"),
    (lambda rows: {"data": rows, "key": "a"}, DataError, "key"),
    (lambda rows: {"data": rows, "probse": 3}, JobError, "probes"),
    (lambda rows: {"data": rows, "trace": "exakt"}, ValueError, "exact"),
    (lambda rows: {"data": rows, "t0": 2.0}, ValueError, "t0=2"),
    (lambda rows: {"data": rows, "seed": -1}, ValueError, "seed"),
]


@pytest.mark.parametrize(("given", "error", "words"), REFUSED)
def test_what_cannot_be_used_is_refused_and_nothing_left_behind(job, rows, tmp_path, given, error, words):
    with pytest.raises(error, match=words):
        job(**given(rows))
    left = {p.name for p in (tmp_path / "out").glob("*") if not p.name.startswith(".")}
    assert left == set()


def test_a_network_in_train_mode_is_refused(job, rows):
    net = torch.nn.Sequential(torch.nn.Dropout(0.5))
    with pytest.raises(ModelError, match=r"net\.eval\(\)"):
        job(rows, model=sd.ScoreModel(net.train(), sd.VP()))


def test_samples_of_another_shape_than_the_card_says_are_refused(job, rows):
    model = network()
    model.card["data"] = {"shape": [3]}
    with pytest.raises(DataError, match=r"\(2,\).*\(3,\)"):
        job(rows, model=model)


CHANGED = [
    ("settings.seed", {"seed": 1}, "0 there and 1 now"),
    ("settings.rtol", {"rtol": 1e-3}, "0.01 there and 0.001 now"),
    ("settings.trace", {"trace": "hadamard"}, '"exact" there and "hadamard" now'),
    ("settings.micro_batch", {"micro_batch": 2}, "4 there and 2 now"),
    ("settings.threads", {"num_threads": 2}, "1 there and 2 now"),
    ("settings.dtype", {"dtype": torch.float64}, '"float32" there and "float64" now'),
    ("data.rows", {"limit": 5}, "11 there and 5 now"),
    ("data.sha256", {"other": True}, "now"),
    ("model.sha256", {"model": network(seed=1)}, "now"),
    ("model.sde", {"model": sd.ScoreModel(network().net, sd.VP(beta_max=10.0))}, "now"),
    ("versions.torch", {"version": "9.9"}, '"9.9" now'),
]


@pytest.mark.parametrize(("field", "change", "words"), CHANGED, ids=[c[0] for c in CHANGED])
def test_a_changed_job_is_refused_by_the_name_of_the_field(job, rows, monkeypatch, tmp_path, field, change, words):
    job(rows, num_threads=1)
    before = (tmp_path / "out" / MERGED).read_bytes()
    if change.pop("other", False):
        rows = rows + 1
    if version := change.pop("version", None):
        monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(JobError) as refused:
        job(rows, **change)
    assert f"{field} is " in str(refused.value)
    assert words in str(refused.value)
    assert (tmp_path / "out" / MERGED).read_bytes() == before


def test_descriptions_are_the_same_in_every_process():
    class Plain:
        def __init__(self):
            self.a = 3

    assert described(Plain()) == described(Plain())
    assert "0x" not in described(Plain())
    assert described(sd.VP()) != described(sd.VP(beta_max=3.0))
    assert described(torch.zeros(2)) != described(torch.ones(2))
    assert described(None) is None


def test_out_of_memory_halves_the_micro_batch_says_it_once_and_notes_it(job, rows, tmp_path):
    inner = network(dtype=torch.float64)
    expected = job(rows, "enough", model=inner, micro_batch=8)[1]["log_prob"]

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = inner.net

        def forward(self, x, t):
            if len(x) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.net(x, t)

    model = sd.ScoreModel(Small().eval(), inner.sde)
    summary, columns, said = job(rows, model=model, micro_batch=8)
    assert said == [f"memory ran out: {n} samples at a time from here on" for n in (4, 2)]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["notes"] == {"micro_batch": 2}
    assert summary.micro_batch == 2
    np.testing.assert_allclose(columns["log_prob"], expected, atol=1e-9, rtol=0)


def test_no_memory_for_one_sample_is_an_error_and_others_are_not_taken_for_it(job, rows):
    def broken(x, t):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(JobError, match="one sample at a time"):
        job(rows, model=sd.ScoreModel(broken, sd.VP()))

    def other(x, t):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        job(rows, "other", model=sd.ScoreModel(other, sd.VP()))


def test_a_million_rows_stay_on_the_disk(tmp_path):
    held = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.float32, (1_000_000, 8))
    held[::1000] = 1.5
    held.flush()
    size = held.nbytes
    del held
    tracemalloc.start()
    try:
        data = data_set(tmp_path / "big.npy")
        first = data_hash(data)
        data.tensor(index=range(64))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(data) == 1_000_000
    assert peak < size / 2
    changed = np.lib.format.open_memmap(tmp_path / "big.npy", "r+")
    changed[-1, -1] = 2.0
    changed.flush()
    assert data_hash(data_set(tmp_path / "big.npy")) != first


def test_differences_of_two_models_are_paired(job, rows, tmp_path):
    one = job(rows, "one")[1]["log_prob"]
    two = job(rows, "two", model=network(seed=1))[1]["log_prob"]
    found = paired(tmp_path / "one", tmp_path / "two")
    difference = np.subtract(two, one)
    assert found["samples"] == 11
    assert found["log_prob"] == pytest.approx(difference.mean())
    assert found["log_prob_std_error"] == pytest.approx(difference.std(ddof=1) / 11**0.5)
    job(rows, "three", seed=1)
    with pytest.raises(JobError, match=r"settings\.seed"):
        paired(tmp_path / "one", tmp_path / "three")
    with pytest.raises(JobError, match="no finished job"):
        paired(tmp_path / "one", tmp_path / "nowhere")


def test_the_report_is_one_page_that_needs_nothing_else(job, tmp_path):
    x = np.arange(24, dtype=np.uint8).reshape(12, 2)
    summary, _, _ = job(x, draws=2)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "http" not in page
    assert page.count("data:image/png;base64,") == 2
    assert f"{summary.bits_per_dim:.4f}" in page
    for part in ("sampling", "trace", "solver", "dequantisation", "start", "prior", "calls", "seconds"):
        assert f">{part}</td>" in page
    saved = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert saved["log_prob"] == summary.log_prob
    files = sorted(p.name for p in (tmp_path / "out").iterdir() if p.name[0] != ".")
    assert files == ["likelihood.parquet", "manifest.json", "report.html", "summary.json"]


def test_threads_come_from_the_manifest_and_go_back(job, rows, tmp_path):
    seen, before = [], torch.get_num_threads()
    inner = network()

    def net(x, t):
        seen.append(torch.get_num_threads())
        return inner.net(x, t)

    job(rows, model=sd.ScoreModel(net, sd.VP()), num_threads=2)
    assert set(seen) == {2}
    assert torch.get_num_threads() == before
    (tmp_path / "out" / MERGED).unlink()
    seen.clear()
    job(rows, model=sd.ScoreModel(net, sd.VP()))
    assert set(seen) == {2}


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
