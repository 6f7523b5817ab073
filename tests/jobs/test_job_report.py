"""The data-set job: what is written of it, and two models compared."""

import json
import re

import numpy as np
import pytest

from sdediff.jobs import JobError, paired
from sdediff.jobs.summary import read_results
from tests.jobs.networks import network


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
    assert "prefers-color-scheme: dark" in page
    assert '<a href="likelihood.parquet">' in page
    bits = read_results(tmp_path / "out")["bits_per_dim"]
    listed = re.findall(r'<td class="n">(\d+)</td><td class="n">([\d.-]+)</td><td>(\w+) likely</td>', page)
    order = np.argsort(-bits).tolist()
    assert [(int(row), word) for row, _, word in listed] == [
        *((at, "least") for at in order[:5]), *((at, "most") for at in order[:-6:-1])
    ]  # fmt: skip
    assert all(value == f"{bits[int(row)]:.4f}" for row, value, _ in listed)
    saved = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert saved["log_prob"] == summary.log_prob
    files = sorted(p.name for p in (tmp_path / "out").iterdir() if p.name[0] != ".")
    assert files == ["journal.jsonl", "likelihood.parquet", "manifest.json", "report.html", "summary.json"]
