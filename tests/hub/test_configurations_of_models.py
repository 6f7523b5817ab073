"""The networks in the package are those that the configurations of their systems train."""

import dataclasses
import json

import pytest
import torch

import sdediff as sd
from sdediff import hub
from sdediff.training import TrainingSettings, read_config

# Networks whose card holds the configuration, and the two that are older than cards of this kind.
OLDER = ["digits-ve", "digits-vp"]
MODELS = sorted(set(hub.models()) - set(OLDER))


def configuration(name):
    """The configuration that trains a network of the package."""
    system = name.removeprefix("digits-").replace("-", "_")
    return read_config({"cond": "edm_class"}.get(system, system))


@pytest.mark.parametrize("name", [*MODELS, *OLDER])
def test_a_network_of_the_package_is_that_of_its_configuration(name):
    model, made = sd.load(name), configuration(name).model(sd.data("digits", "train"))
    assert type(model.net) is type(made.net)
    # The folder leaves out what was added to the network's fields after it was written.
    assert made.net.config == {**made.net.config, **model.net.config}
    assert [model.predicts, model.time] == [made.predicts, made.time]
    assert model.sigma_data == pytest.approx(made.sigma_data, rel=1e-6)
    assert type(model.sde) is type(made.sde)
    t = torch.linspace(0.3, 1.0, 5, dtype=torch.float64) * model.sde.T
    if name != "digits-vdm":  # its schedule is learned
        assert torch.allclose(model.sde.lam(t), made.sde.lam(t), rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_a_card_holds_the_configuration_of_today(name):
    training = sd.load(name).card["training"]
    # Settings that came after it was written are at their defaults.
    settings = {**dataclasses.asdict(TrainingSettings()), **training["config"]["training"]}
    assert {**training["config"], "training": settings} == json.loads(json.dumps(configuration(name).plain()))
    assert training["updates"] == training["config"]["training"]["updates"]


@pytest.mark.parametrize("name", OLDER)
def test_older_cards_say_what_their_configuration_does(name):
    training, config = sd.load(name).card["training"], configuration(name)
    settings = config.training
    assert [training[key] for key in ("steps", "batch", "seed")] == [settings.updates, settings.batch, settings.seed]
    assert f"rate={settings.rate}, warmup={settings.warmup}, clip={settings.clip}" in training["optimiser"]
    share = getattr(config.objective(sd.data("digits", "train")).spread, "share", 0.0)
    assert f"{share:.0%} of a batch evenly in t, the rest in log-SNR" in training["objective"]
    assert training["lowest t"] == config.objective(sd.data("digits", "train")).lowest
