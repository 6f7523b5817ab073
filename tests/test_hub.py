import json
import math
import pickle
import sys
import time
import tracemalloc
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdediff import hub
from sdediff.hub import HubError
from sdediff.hub.config import SDES, sde_config, sde_from
from sdediff.model.score_model.score_model import ScoreModel, reschedule
from sdediff.nets import MLP, UNet
from sdediff.sde.base.processes import VE, VP, Cosine
from sdediff.sde.base.table import Table
from sdediff.training import build

EMBEDDED = ["digits-ddpm", "digits-ve", "digits-vp"]
X, T = torch.linspace(-1, 1, 10).reshape(2, 5), torch.tensor([0.2, 0.7], dtype=torch.float64)


def net():
    made = build(lambda: MLP(5, 16, 2))
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.01)
    return made


@pytest.fixture
def folder(tmp_path):
    return hub.save(ScoreModel(net(), VP()), tmp_path / "small", card={"about": "a test"}, data={"name": "none"})


def edit(folder, **changes):
    """Changes fields of config.json; the digest goes, so that the fault is met by the check that it is for."""
    config = json.loads((folder / "config.json").read_text())
    config.update({"sha256": None, **changes})
    (folder / "config.json").write_text(json.dumps(config))


def refused(folder, match):
    """One HubError that names its place, within a second and with no large allocation."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(HubError, match=match) as caught:
            hub.load(folder)
        seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert seconds < 1
    assert peak < 2_000_000
    return str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        ScoreModel(net(), VP(beta_max=12.5, t_min=1e-4)),
        ScoreModel(net(), VE(sigma_max=20.0), "score", "sigma"),
        ScoreModel(net(), Cosine(), "edm", sigma_data=0.5),
        ScoreModel(net(), Table.from_betas(torch.linspace(1e-4, 0.02, 50)), time="index", offset=0),
        reschedule(ScoreModel(net(), VP()), Table.from_sigmas([0.1, 1.0, 10.0])),
    ],
    ids=lambda m: f"{type(m.sde).__name__}-{m.predicts}",
)
def test_round_trip(model, tmp_path):
    again = hub.load(hub.save(model, tmp_path / "m", card={"figure": 1.5}, data={"name": "five"}))
    assert (again.sde, again.trained, again.predicts) == (model.sde, model.trained, model.predicts)
    assert (again.time, again.sigma_data, again.offset) == (model.time, model.sigma_data, model.offset)
    assert again.card == {"figure": 1.5, "name": "m", "data": {"name": "five"}}
    assert not again.net.training
    assert not any(p.requires_grad for p in again.net.parameters())
    t = T * model.sde.t_max
    assert torch.equal(again(X, t).x0, model(X, t).x0)


def test_saving_again_keeps_the_card(folder, tmp_path):
    first = hub.load(folder)
    second = hub.load(hub.save(first, tmp_path / "other"))
    assert second.card == {**first.card, "name": "other"}


def test_dtype(folder):
    assert hub.load(folder, dtype=torch.float64)(X.double(), T).x0.dtype == torch.float64
    half = hub.load(folder, dtype=torch.float16)
    hub.save(half, folder)
    assert next(hub.load(folder).net.parameters()).dtype == torch.float16


def test_loading_leaves_the_global_random_state(folder):
    before = torch.random.get_rng_state()
    hub.load(folder)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", sorted(SDES))
def test_every_process_round_trips(name):
    sde = Table((2.0, 1.0, -math.inf)) if name == "Table" else SDES[name]()
    written = json.loads(json.dumps(sde_config(sde), allow_nan=False))
    assert sde_from(written, "here") == sde


def test_tables_by_hand():
    betas = [0.1, 0.2, 0.3]
    assert sde_from({"class": "Table", "kind": "betas", "values": betas}, "") == Table.from_betas(betas)
    assert sde_from({"class": "Table", "kind": "sigmas", "values": [1, 2]}, "") == Table.from_sigmas([1, 2])


# Faults of the weights.


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    refused(folder, f"{name}: no such file")


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1000, -1])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(folder, r"model\.safetensors: .*(copy or download it again)")


@pytest.mark.parametrize("place", [0, 3, 7, 9, 40, 90, 200, -2000, -1])
@pytest.mark.parametrize("bit", [0, 6])
def test_flipped_bit(folder, place, bit):
    path = folder / "model.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    refused(folder, r"model\.safetensors: ")


@pytest.mark.parametrize("length", [2**63, 2**40, 10_000_000, 640])
def test_huge_header(folder, length):
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}" * 50)
    refused(folder, f"claims {length} of 108 bytes")


def header_only(folder, table, size=0):
    raw = table if isinstance(table, bytes) else json.dumps(table).encode()
    (folder / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(size))
    edit(folder)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (b"[" * 100_000, "header is damaged"),
        (b"[1, 2]", "header is damaged"),
        (b"\xff\xfe", "header is damaged"),
        ({"a": {"shape": [1]}}, "header is damaged"),
        ({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}}, "does not lie where"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}, "no whole number"),
        ({"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 6]}}, "no whole number"),
        ({"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, "stored as I64: save it as one of F64"),
        (
            {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}},
            "8 bytes of weights where",
        ),
    ],
)
def test_foreign_header(folder, table, match):
    header_only(folder, table, size=8)
    refused(folder, match)


class Trap:
    def __reduce__(self):
        return (sys.exit, ("a pickle ran",))


@pytest.mark.parametrize("kind", ["pickle", "protocol0", "torch"])
def test_pickle_is_refused_and_not_run(folder, kind):
    path = folder / "model.safetensors"
    if kind == "torch":
        torch.save({"w": torch.zeros(2), "trap": Trap()}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(), protocol=0 if kind == "protocol0" else 4) + bytes(100))
    refused(folder, "cut short or damaged" if kind == "protocol0" else "a pickle, which can run code: refused")


def rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    edit(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite(folder, value):
    rewrite(folder, lambda w: w["blocks.1.first.bias"].__setitem__(3, value))
    refused(folder, r"NaN or Inf in blocks\.1\.first\.bias \(1 such")


def test_missing_extra_and_renamed_tensors(folder):
    def change(w):
        w.pop("gain.bias")
        w["gaiety.bias"] = torch.zeros(7, 7)
        w["blocks.0.frist.weight"] = w.pop("blocks.0.first.weight")

    rewrite(folder, change)
    message = refused(folder, r"not this network's weights")
    assert "missing gain.bias" in message
    assert "extra gaiety.bias" in message
    assert "blocks.0.first.weight is there as blocks.0.frist.weight" in message


def test_wrong_shape(folder):
    rewrite(folder, lambda w: w.update({"first.weight": torch.zeros(16, 6)}))
    refused(folder, r"first\.weight is \(16, 6\), needed \(16, 5\)")


# Faults of the config.


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": 2}, "format 2, this version reads 1"),
        ({"sde": {"class": "PV"}}, "unknown process 'PV': did you mean 'VP'"),
        ({"sde": None}, "sde must be an object"),
        ({"sde": {"class": "VP", "beta_mix": 1.0}}, "VP has no field 'beta_mix': did you mean"),
        ({"sde": {"class": "VP", "beta_min": "1"}}, "give a finite number"),
        ({"sde": {"class": "VP", "beta_min": math.nan}}, "give a finite number"),
        ({"sde": {"class": "Table", "kind": "beta", "values": [0.1]}}, "kind of table 'beta': did you mean 'betas'"),
        ({"sde": {"class": "Table", "kind": "betas"}}, "the process Table cannot be made"),
        ({"sde": {"class": "Table", "kind": "sigmas", "values": [2, 1]}}, "ascending sigmas"),
        ({"sde": {"class": "Table", "kind": "betas", "values": ["a", "b"]}}, "the process Table cannot be made"),
        ({"net": {"class": "UNett", "config": {}}}, "unknown network 'UNett': did you mean 'UNet'"),
        ({"net": {"class": "MLP", "config": {"dimension": 5}}}, "the network MLP cannot be made"),
        ({"net": {"class": "MLP", "config": {"dim": 5, "blocks": 10**12}}}, r"needs more than the \d+ tensors"),
        ({"net": {"class": "MLP", "config": {"dim": 5, "width": 10**6, "blocks": 2}}}, "not this network's weights"),
        ({"net": {"class": "MLP", "config": {"dim": 5, "width": 10**30}}}, "the network MLP cannot be made"),
        ({"net": {"class": "MLP", "config": {"dim": -5}}}, "the network MLP cannot be made"),
        ({"predicts": "epsilon"}, "epsilon"),
        ({"time": "clock"}, "clock"),
        ({"time": 3}, "time=3 is not what a model takes"),
        ({"sigma_data": -1.0}, r"sigma_data=-1\.0 is not"),
        ({"card": [1]}, "card must be an object"),
        ({"weights_of": "../../etc"}, "names no model beside it"),
        ({"weights_of": "digits-vq"}, "names no model beside it"),
        ({"weights_of": "digits-ddpm"}, "which has none of its own"),
        ({"sha256": "0" * 64}, "SHA-256 is not the one"),
    ],
)  # fmt: skip
def test_faults_of_the_config(folder, changes, match):
    edit(folder, **changes)
    refused(folder, match)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '"x"', "\x00"])
def test_config_that_is_no_json_object(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, r"config\.json: ")


def test_huge_config(folder):
    with (folder / "config.json").open("wb") as file:
        file.truncate(10**10)
    refused(folder, "more than a config can need")


# Names.


def test_unknown_names():
    with pytest.raises(HubError, match="no model 'digits-vq', nor a folder of that name: did you mean 'digits-v"):
        hub.load("digits-vq")
    with pytest.raises(HubError, match="write one of digits-ddpm, digits-ve, digits-vp"):
        hub.load("xyzzy")
    with pytest.raises(HubError, match="no data set 'digit' in the package: did you mean 'digits'"):
        hub.data("digit")
    with pytest.raises(HubError, match="did you mean 'test'"):
        hub.data("digits", "tests")


def test_a_file_is_no_folder(folder):
    with pytest.raises(HubError, match="give the folder that holds"):
        hub.load(folder / "model.safetensors")


def test_hub_id_without_its_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HubError, match=r"some/model: no such folder; .* pip install huggingface_hub"):
        hub.load("some/model")


def test_hub_id_with_its_client(monkeypatch, folder):
    class Client:
        @staticmethod
        def snapshot_download(name, allow_patterns):
            assert allow_patterns == ["config.json", "*.safetensors"]
            if name != "some/model":
                raise OSError("404\nlong story")
            return str(folder)

    monkeypatch.setitem(sys.modules, "huggingface_hub", Client)
    assert hub.load("some/model").sde == VP()
    with pytest.raises(HubError, match=r"other/model: .*\(404\): check the name"):
        hub.load("other/model")


# Saving.


def test_what_cannot_be_saved(tmp_path):
    class Mine(VP):
        pass

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    good = ScoreModel(net(), VP())
    cases = [
        (good, tmp_path / "full", {}, "holds something else than a model"),
        (replace(good, time=lambda t: t.t), tmp_path / "a", {}, "whose clock is a function"),
        (replace(good, sde=Mine()), tmp_path / "b", {}, "a Mine cannot be saved: give one of"),
        (replace(good, net=torch.nn.Identity()), tmp_path / "c", {}, "a Identity cannot be saved"),
        (good, tmp_path / "d", {"x": math.nan}, "cannot be written as JSON"),
    ]
    for model, where, card, match in cases:
        with pytest.raises(HubError, match=match):
            hub.save(model, where, card=card)
        assert where.name == "full" or not where.exists()


# What is in the package.


def test_models_lists_the_embedded_ones():
    found = hub.models()
    assert sorted(found) == EMBEDDED
    assert found["digits-ddpm"]["weights_of"] == "digits-vp"
    for name in EMBEDDED:
        assert found[name]["bits_per_dim_error"] > 0
        assert found[name]["frechet"] > found[name]["frechet_of_real"] > 0


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_model(name):
    model = hub.load(name)
    shape = {"range": [-1, 1], "shape": [1, 8, 8]}
    assert model.card["data"] == {"name": "digits", "levels": 17, "dequantised": True, **shape}
    assert sum(f.stat().st_size for f in (hub.ASSETS / name).iterdir()) < 2_000_000
    x = hub.data().tensor(index=[0, 1, 2])
    times = torch.tensor([model.sde.t_min, model.sde.T / 2, model.sde.T], dtype=torch.float64)
    prediction = model(x, times)
    assert prediction.x0.shape == x.shape
    assert prediction.eps.isfinite().all()
    readme = (hub.ASSETS / name / "README.md").read_text()
    assert readme == hub.readme(name, json.loads((hub.ASSETS / name / "config.json").read_text()))


@pytest.mark.parametrize(("name", "t"), [("digits-vp", 0.1), ("digits-ve", 0.5), ("digits-ddpm", 100.0)])
def test_embedded_model_removes_noise(name, t):
    # The mean square error of x0 is far below that of the best constant, the variance of the data.
    model, x0 = hub.load(name), hub.data().tensor(index=range(100))
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    here = model.sde.marginal(t)
    x_t = here.scale.float() * x0 + here.std.float() * eps
    error = (model(x_t, t).x0 - x0).square().mean()
    assert error < 0.25 * x0.var(dim=0).mean()


def test_data():
    train, test = hub.data("digits", "train"), hub.data("digits")
    assert (len(train), len(test), train.shape, test.levels) == (3823, 1797, (1, 8, 8), 17)
    assert test.tensor().min() == pytest.approx(-1 + 1 / 17)
    assert set(test.labels.reshape(-1).tolist()) == set(range(10))


def test_unet_folder(tmp_path):
    model = ScoreModel(UNet(width=8, blocks=1, attention=2), VP())
    again = hub.load(hub.save(model, tmp_path / "u"))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x, T).eps, model(x, T).eps)
