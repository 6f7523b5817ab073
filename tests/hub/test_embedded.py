"""The models and data in the package."""

import json

import numpy as np
import pytest
import torch

from sdediff import hub, sampling
from sdediff.hub.errors import HubError
from sdediff.model.score_model import ScoreModel
from sdediff.nets import UNet
from sdediff.sde.processes import VP
from sdediff.training import classify
from tests.hub.folders import T

# Networks by whose likelihood and samples a card is judged, and those that condition on a label or give one.
EMBEDDED = [
    "digits-ddpm", "digits-edm", "digits-flow", "digits-iddpm", "digits-iddpm-levels", "digits-ncsn", "digits-ncsnv2",
    "digits-subvp", "digits-vdm", "digits-ve", "digits-vp", "digits-vp-likelihood",
]  # fmt: skip
LABELLED = ["digits-classifier", "digits-cond"]


def test_models_lists_the_embedded_ones():
    found = hub.models()
    assert sorted(found) == sorted([*EMBEDDED, *LABELLED])
    for name in EMBEDDED:
        assert found[name]["bits_per_dim_error"] > 0
        assert found[name]["frechet"] > found[name]["frechet_of_real"] > 0


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_model(name):
    model = hub.load(name)
    shape = {"range": [0, 1] if name == "digits-ncsn" else [-1, 1], "shape": [1, 8, 8]}
    facts = {"name": "digits", "levels": 17, "dequantised": not name.startswith("digits-iddpm")}
    assert model.card["data"] == {**facts, **shape}
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


@pytest.mark.parametrize("name", ["digits-ncsn", "digits-ncsnv2"])
def test_networks_of_ladders_serve_between_their_levels(name):
    # The flow and samplers of any number of calls go there: the error of eps half way between two levels of the ladder
    # is that of the levels beside. With features of log sigma a hundred times faster it was up to 1.5 and 6.3 of that.
    model = hub.load(name)
    x0 = hub.data().dequantised(0, range(200), tuple(model.card["data"]["range"]))
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    errors = []
    for t in torch.arange(2, 2 * model.sde.n + 1, dtype=torch.float64) / 2:
        here = model.sde.marginal(t.item())
        prediction = model(here.scale.float() * x0 + here.std.float() * eps, t.item())
        errors.append((prediction.eps - eps).square().mean())
    at, between = torch.stack(errors[0::2]), torch.stack(errors[1::2])
    assert bool((between < 1.02 * (at[1:] + at[:-1]) / 2).all())


def test_the_classifier_reads_noised_digits():
    model, test = hub.load("digits-classifier"), hub.data()
    rows, label = range(300), torch.from_numpy(np.array(test.labels)).flatten()[:300]
    noise = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    accuracy = (classify(model, test.dequantised(0, rows) + 0.5 * noise, 0.5).argmax(1) == label).double().mean()
    assert accuracy > 0.9
    assert hub.models()["digits-classifier"]["accuracy"] == pytest.approx(accuracy.item(), abs=0.04)


def test_the_conditional_network_draws_the_class_that_it_is_given():
    model, label = hub.load("digits-cond"), torch.arange(40) % 10
    x = sampling.sample(model, (40, 1, 8, 8), calls=12, cond={"label": label})
    clean = classify(hub.load("digits-classifier"), x, 0.05).argmax(1)
    assert (clean == label).double().mean() > 0.8
    assert (classify(hub.load("digits-classifier"), x, 0.05).argmax(1) == label.flip(0)).double().mean() < 0.3


@pytest.mark.parametrize("name", LABELLED)
def test_folders_with_labels_are_small_and_their_cards_current(name):
    assert sum(f.stat().st_size for f in (hub.ASSETS / name).iterdir()) < 2_000_000
    config = json.loads((hub.ASSETS / name / "config.json").read_text())
    assert (hub.ASSETS / name / "README.md").read_text() == hub.readme(name, config)


def test_data():
    train, test = hub.data("digits", "train"), hub.data("digits")
    assert (len(train), len(test), train.shape, test.levels) == (3823, 1797, (1, 8, 8), 17)
    assert test.tensor().min() == pytest.approx(-1 + 1 / 17)
    assert set(test.labels.reshape(-1).tolist()) == set(range(10))
    assert (hub.data("digits:train").x == train.x).all()
    with pytest.raises(HubError, match="digits:test with split='train'"):
        hub.data("digits:test", "train")
    with pytest.raises(HubError, match="no split 'tset'"):
        hub.data("digits:tset")


def test_unet_folder(tmp_path):
    model = ScoreModel(UNet(width=8, blocks=1, attention=2), VP())
    again = hub.load(hub.save(model, tmp_path / "u"))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x, T).eps, model(x, T).eps)
