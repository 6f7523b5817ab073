"""Network pickles of EDM: the denoised state of its four preconditionings beside ours, read without its code."""

import pickle

import pytest
import torch

import sdediff as sd
from sdediff.bridges import BridgeError
from tests.bridges import foreign
from tests.bridges.foreign import F64, SongUNet, states, write_edm

KEPT = {"img_resolution": 6, "img_channels": 1, "label_dim": 0}


def inner(out=1, seed=0):
    torch.manual_seed(seed)
    network = SongUNet(out=out).double().eval()
    network._init_args, network._init_kwargs = (), {"width": 4, "out": out}
    return network


def outer(kind):
    kept = {
        "EDMPrecond": {"sigma_data": 0.7, "sigma_min": 0, "sigma_max": float("inf")},
        "VPPrecond": {"beta_d": 19.9, "beta_min": 0.1, "M": 1000, "epsilon_t": 1e-5},
        "VEPrecond": {"sigma_min": 0.02, "sigma_max": 100},
        "iDDPMPrecond": {"M": 10},
    }[kind]
    network = getattr(foreign, kind)(inner(2 if kind == "iDDPMPrecond" else 1), **KEPT, **kept)
    network._init_args, network._init_kwargs = (), {**KEPT, "model_type": "SongUNet"}
    if kind == "iDDPMPrecond":
        network.register_buffer("u", torch.cat([torch.logspace(2, -2, 10, dtype=F64), torch.zeros(1, dtype=F64)]))
    return network.eval()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", ["EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond"])
def test_the_denoised_state_is_edms(kind, protocol, tmp_path, monkeypatch):
    theirs, path = outer(kind), tmp_path / "edm.pkl"
    write_edm(path, monkeypatch, {"ema": theirs}, protocol)
    model = sd.from_edm(path, SongUNet)
    assert model.net.network.config == {"width": 4, "out": 2 if kind == "iDDPMPrecond" else 1}
    assert model.card["data"] == {"shape": [1, 6, 6], "range": [-1.0, 1.0]}
    sigmas = theirs.u[[9, 4, 0]].tolist() if kind == "iDDPMPrecond" else (0.05, 1.5, 40.0)
    for sigma in sigmas:
        time = model.sde.t_of_lam(-torch.tensor(sigma, dtype=F64).log()).item()
        time = round(time) * 1.0 if kind == "iDDPMPrecond" else time
        level = sd.level(model.sde, time)
        x = sigma * states()
        torch.testing.assert_close(model(x * level.alpha, time).x0, theirs(x, sigma), rtol=1e-6, atol=1e-6)


def test_labels_and_the_other_networks_of_the_file(tmp_path, monkeypatch):
    theirs = outer("EDMPrecond")
    theirs.label_dim = 10
    write_edm(tmp_path / "edm.pkl", monkeypatch, {"ema": theirs, "net": outer("VEPrecond")}, 4)
    model = sd.from_edm(tmp_path / "edm.pkl", SongUNet)
    labels = torch.eye(10, dtype=F64)[[2, 7]]
    x = 1.5 * states()
    found = model.given(class_labels=labels)(x, 1.5).x0
    torch.testing.assert_close(found, theirs(x, 1.5, labels), rtol=1e-6, atol=1e-6)
    assert "one-hot of 10" in model.card["notes"][0]
    assert sd.from_edm(tmp_path / "edm.pkl", SongUNet, which="net").predicts == "-eps"
    assert sd.sample(sd.from_edm(tmp_path / "edm.pkl", inner(seed=3)), (2, 1, 6, 6), steps=3).shape == (2, 1, 6, 6)


def test_files_that_are_no_network_of_edm(tmp_path, monkeypatch):
    path = tmp_path / "edm.pkl"
    write_edm(path, monkeypatch, {"ema": outer("EDMPrecond")}, 4)
    for network, options, match in (
        (SongUNet, {"which": "G_ema"}, "no network of EDM under 'G_ema'"),
        (SongUNet, {"config": {"width": 8}}, "needed"),
        (foreign.Small, {}, "missing frozen"),
    ):
        with pytest.raises(BridgeError, match=match):
            sd.from_edm(path, network, **options)
    path.write_bytes(pickle.dumps({"ema": [1, 2]}))
    with pytest.raises(BridgeError, match="no network of EDM"):
        sd.from_edm(path, SongUNet)
    lone = outer("EDMPrecond")
    lone.model = torch.nn.Linear(2, 2)
    lone.model.__dict__.clear()
    lone.__dict__["_modules"] = {}
    write_edm(path, monkeypatch, {"ema": lone}, 4)
    with pytest.raises(BridgeError, match="without its model"):
        sd.from_edm(path, SongUNet)
    nameless = outer("EDMPrecond")
    nameless.model._init_args = (4,)
    write_edm(path, monkeypatch, {"ema": nameless}, 4)
    with pytest.raises(BridgeError, match="config="):
        sd.from_edm(path, SongUNet)
