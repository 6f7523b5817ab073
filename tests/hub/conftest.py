"""A saved model."""

import pytest

from sdediff import hub
from sdediff.model.score_model import ScoreModel
from sdediff.sde.processes import VP
from tests.hub.folders import net


@pytest.fixture(autouse=True, scope="session")
def loaded_once(tmp_path_factory):
    """torch imports much when a first model is loaded: not in the second that a refusal may take."""
    path = tmp_path_factory.mktemp("hub") / "first"
    hub.save(ScoreModel(net(), VP()), path)
    hub.load(path)


@pytest.fixture
def folder(tmp_path):
    return hub.save(ScoreModel(net(), VP()), tmp_path / "small", card={"about": "a test"}, data={"name": "none"})
