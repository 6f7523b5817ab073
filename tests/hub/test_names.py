"""Names of models: unknown ones, folders, the hub's."""

import sys

import pytest

from sdediff import hub
from sdediff.hub import HubError
from sdediff.sde.processes import VP


def test_unknown_names():
    with pytest.raises(HubError, match="no model 'digits-vq', nor a folder of that name: did you mean 'digits-v"):
        hub.load("digits-vq")
    with pytest.raises(HubError, match=r"write one of digits-.*digits-ve, digits-vp"):
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
        def snapshot_download(name, allow_patterns, ignore_patterns):
            assert {"*.json", "*/*.safetensors"} <= set(allow_patterns)
            assert "*.fp16*" in ignore_patterns
            if name != "some/model":
                raise OSError("404\nlong story")
            return str(folder)

    monkeypatch.setitem(sys.modules, "huggingface_hub", Client)
    assert hub.load("some/model").sde == VP()
    with pytest.raises(HubError, match=r"other/model: .*\(404\): check the name"):
        hub.load("other/model")
