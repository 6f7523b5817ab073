"""The command `likelihood`: bits of levels, bounds, continuous data, the package's data."""

import json

import numpy as np
import pytest
import torch
from pyarrow import parquet

import sdediff as sd
from sdediff.datasets import DataSet
from tests.cli.output import parsed


def test_likelihood_of_levels_gives_bits(run, home, tmp_path):
    said = parsed(
        run("likelihood", "points", "bytes.npy", "--levels", 32, "--range", "0,31", "--trace", "exact",
            "--rtol", 1e-3, "--atol", 1e-3, "--limit", 10, "--out", tmp_path, "--json")
    )  # fmt: skip
    table = parquet.read_table(said["files"]["parquet"]).to_pydict()
    columns = ["index", "log_prob", "std_error", "bits_per_dim", "status", "calls", "latent_norm", "solver_error"]
    assert list(table) == columns
    assert table["index"] == list(range(10))
    assert set(table["status"]) == {"ok"}
    data = DataSet(np.load(home / "bytes.npy"), 32, (0, 31))
    x = data.dequantised(seed=0, index=range(10))
    result = sd.log_likelihood(sd.load(home / "points"), x, trace="exact", rtol=1e-3, atol=1e-3, micro_batch=64)
    np.testing.assert_allclose(table["log_prob"], result.log_prob.numpy(), rtol=1e-12)
    bits = sd.bits_per_dim(result, levels=32, range=(-1, 1))
    np.testing.assert_allclose(table["bits_per_dim"], bits.numpy(), rtol=1e-12)
    norms = result.latent.flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(table["latent_norm"], norms, rtol=1e-6)
    assert said["bits_per_dim"] == pytest.approx(bits.mean().item())
    assert said["bits_per_dim_std_error"] == pytest.approx(bits.std().item() / 10**0.5)
    assert said["log_prob"] == pytest.approx(result.log_prob.mean().item())
    assert (said["samples"], said["left_out"], said["probe_error"]) == (10, 0, 0)
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert saved["settings"]["trace"] == "exact"
    assert saved["versions"]["torch"] == torch.__version__


def test_likelihood_by_a_bound(run, home, tmp_path):
    said = parsed(
        run("likelihood", "points", "bytes.npy", "--levels", 32, "--range", "0,31", "--method", "vlb", "--steps", 8,
            "--prior", "unit", "--limit", 10, "--out", tmp_path, "--json")
    )  # fmt: skip
    assert (said["method"], said["prior"]) == ("vlb", "unit")
    x = DataSet(np.load(home / "bytes.npy"), 32, (0, 31)).tensor()[:10]
    bins, model = sd.Discrete(32), sd.load(home / "points")
    direct = sd.log_likelihood(model, x, method="vlb", steps=8, prior="unit", discrete=bins, micro_batch=64)
    assert said["bits_per_dim"] == pytest.approx(sd.bits_per_dim(direct).mean().item())
    assert "bound" in said["density"]


def test_likelihood_of_continuous_data_has_no_bits(run, tmp_path):
    base = ("likelihood", "points", "points.npy", "--limit", 6, "--rtol", 1e-2, "--atol", 1e-2, "--no-check")
    drawn = ("--probes", 3, "--trace", "gaussian", "--method", "RK45", "--t0", 1e-3, "--out", tmp_path / "drawn")
    said = parsed(run(*base, "--json", *drawn))
    assert said["bits_per_dim"] is None
    assert said["probe_error"] >= 0
    assert (said["t0"], said["settings"]["integrator"]) == (1e-3, "RK45")
    assert set(parquet.read_table(said["files"]["parquet"]).to_pydict()["bits_per_dim"]) == {None}
    code, out, _ = run(*base, "--method", "ode", "--out", tmp_path)
    assert code == 0
    assert "none: continuous data" in out
    assert "unknown" in out  # one probe has no spread
    assert str(tmp_path / "likelihood.parquet") in out


def test_likelihood_of_the_package_s_data(run, tmp_path):
    said = parsed(
        run("likelihood", "pictures", "digits", "--split", "train", "--limit", 4, "--rtol", 1e-2, "--atol", 1e-2,
            "--out", tmp_path, "--json")
    )  # fmt: skip
    assert (said["data"], said["levels"], said["dims"]) == ("digits:train", 17, 64)
