"""Models by package.module:factory, folders that shadow names, trusted packages, and where a model came from."""

import hashlib
from pathlib import Path

import pytest
import torch

import sdediff as sd
from sdediff import hub
from sdediff.hub import HubError
from sdediff.hub.embedded import ASSETS
from tests.hub import foreign
from tests.hub.folders import T, X

HERE = "tests.hub.foreign"


@pytest.mark.parametrize("name", ["model", "ready"])
def test_a_factory_or_an_object_of_a_module(name):
    model = sd.load(f"{HERE}:{name}")
    assert torch.equal(model(X, T).x0, foreign.model()(X, T).x0)
    assert not model.net.training
    assert not any(p.requires_grad for p in model.net.parameters())
    assert sd.load(f"{HERE}:model", dtype=torch.float64).net.layers[0].weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (
            f"{HERE}:network",
            r"is a network, whose process .*: write def network\(\): return sd.ScoreModel",
        ),
        (f"{HERE}:Net", "is a network, whose process"),
        (f"{HERE}:nothing", "gives None, a NoneType, needed is a ScoreModel"),
        (f"{HERE}:gives_none", "gives None"),
        (f"{HERE}:raises", r"raises\(\) raised KeyError: 'weights.pt': mend the function"),
        (f"{HERE}:leaves", r"leaves\(\) raised SystemExit"),
        (f"{HERE}:wants", "needs arguments .* it is called without any"),
        (f"{HERE}:modle", "has no 'modle'; did you mean 'model'"),
        ("no_such_package.models:make", "no module 'no_such_package' can be imported from here"),
        ("~no_such_user/model", "is no path that can be"),
        ("x" * 5000, "is no path that can be"),
        ("a\0b", "is no path that can be|no model"),
        ("", "no model|holds config.json"),
    ],
)
def test_what_gives_no_model(name, match):
    with pytest.raises(sd.Error, match=match) as caught:
        sd.load(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_what_is_no_name_at_all():
    for thing in (3, None, ["digits-vp"]):
        with pytest.raises(sd.Error, match="is no name of a model"):
            sd.load(thing)


def test_a_folder_never_shadows_a_name_in_silence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sd.save(sd.ScoreModel(sd.nets.MLP(5, 16, 2), sd.VE()), "digits-vp")
    with pytest.warns(sd.NameWarning, match=r"a model of the package, .* write \./digits-vp for the folder") as caught:
        assert sd.load("digits-vp").sde == sd.VP()
    assert caught[0].filename == __file__
    assert sd.load("./digits-vp").sde == sd.VE()
    assert sd.load(Path("digits-vp")).sde == sd.VE()


def test_provenance_of_every_kind_of_source(tmp_path, monkeypatch):
    embedded = hub.provenance(sd.load("digits-vp"))
    assert (embedded.reference, embedded.trust, embedded.version) == ("digits-vp", (), sd.__version__)
    assert embedded.module == "sdediff.nets.unet"
    assert embedded.source == hashlib.sha256(Path(sd.nets.unet.__file__).read_bytes()).hexdigest()
    monkeypatch.chdir(tmp_path)
    folder = sd.save(foreign.model(), "m", config={"dim": 5})
    stored = hub.provenance(sd.load(folder, trust=["tests"]))
    assert (stored.reference, stored.trust) == (str(tmp_path / "m"), ("tests",))
    code = hub.provenance(sd.load(f"{HERE}:model"))
    assert (code.reference, code.module, code.version) == (f"{HERE}:model", HERE, None)
    by_hand = hub.provenance(foreign.model())
    assert (by_hand.reference, by_hand.trust) == (None, ())
    assert stored.weights == code.weights == by_hand.weights
    assert hub.provenance(sd.ScoreModel(lambda x, t: x, sd.VP())).weights is None


def test_the_hash_of_the_weights_changes_with_every_bit_and_not_with_the_wrapping():
    model = foreign.model()
    first = hub.provenance(model).weights
    assert hub.provenance(model.map_net(torch.nn.DataParallel)).weights == first
    assert hub.provenance(model.map_net(lambda net: lambda x, t: net(x, t))).weights == first
    assert hub.provenance(sd.guidance.clip(model, -1, 1)).weights == first
    for name, tensor in model.net.named_parameters():
        before = tensor.detach().clone()
        with torch.no_grad():
            tensor.reshape(-1)[-1] += 1e-6 + 1e-6 * tensor.reshape(-1)[-1].abs()
        assert hub.provenance(model).weights != first, name
        with torch.no_grad():
            tensor.copy_(before)
    assert hub.provenance(model).weights == first


def test_a_guided_model_keeps_where_it_came_from():
    model = sd.guidance.clip(sd.load("digits-vp"), -1, 1).given()
    assert hub.provenance(model).reference == "digits-vp"


def test_functions_take_names(tmp_path):
    assert (ASSETS / "digits-vp").is_dir()
    by_name = sd.sample("digits-vp", (2, 1, 8, 8), steps=3)
    assert torch.equal(by_name, sd.sample(sd.load("digits-vp"), (2, 1, 8, 8), steps=3))
    x = sd.data().dequantised()[:2]
    assert torch.equal(sd.log_likelihood("digits-vp", x).log_prob, sd.log_likelihood(sd.load("digits-vp"), x).log_prob)
    with pytest.raises(HubError, match="did you mean 'digits-vp'"):
        sd.sample("digits-vq", (2, 1, 8, 8))
