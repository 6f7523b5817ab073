"""The data-set job: what is refused."""

import pytest
import torch

import sdediff as sd
from sdediff.datasets import DataError, DataSet
from sdediff.jobs import JobError
from sdediff.jobs.identity import described
from sdediff.jobs.summary import MERGED
from sdediff.model.prediction import ModelError
from tests.jobs.networks import network

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
    (lambda rows: {"data": rows, "probse": 3}, TypeError, "probse"),
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
