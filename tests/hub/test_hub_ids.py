"""Models and adapters by their hub ids, offline, from a cache that is laid out as the hub's client does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("huggingface_hub")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import huggingface_hub
import torch

import sdediff as sd
from sdediff import adapters
from sdediff.cli import main
from sdediff.hub import HubError, names
from tests.bridges.small import MARKS, diffusers, unet
from tests.bridges.tiny_pipeline import pipeline, start
from tests.hub.hub_cache import cached

pytestmark = MARKS
PROMPT = "a red bag"


@pytest.fixture(scope="module")
def adapted() -> sd.ScoreModel:
    """An adapter of digits-vp with a B that is not zero."""
    made = adapters.add_lora(sd.load("digits-vp"), rank=2, alpha=6.0)
    for weight in made.net.parameters():
        if weight.requires_grad:
            weight.data.add_(0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return made


@pytest.fixture(scope="module")
def cache(tmp_path_factory: Any, adapted: sd.ScoreModel) -> Path:
    """The cache: a folder of ours, a network with its scheduler, pipelines, and files of adapters."""
    made, place = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("hub")
    sd.save(sd.load("digits-vp"), made / "own")
    unet().float().save_pretrained(made / "flat")
    diffusers.DDPMScheduler().save_pretrained(made / "flat")
    pipeline().save_pretrained(made / "pipe")
    diffusers.DDPMPipeline(unet().float(), diffusers.DDPMScheduler()).save_pretrained(made / "beside")
    for part in ("unet", "scheduler"):
        for file in (made / "beside" / part).iterdir():
            file.rename(made / "beside" / file.name)
        (made / "beside" / part).rmdir()
    adapters.save_lora(adapted, made / "style" / "pytorch_lora_weights.safetensors")
    adapters.save_lora(adapted, made / "named" / "files" / "three.safetensors")
    _as_peft_writes(adapted, made / "peft")
    for folder in made.iterdir():
        cached(place, f"org/{folder.name}", folder)
    return place


@pytest.fixture(autouse=True)
def offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of this process reads that cache and opens no connection."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def _as_peft_writes(adapted: sd.ScoreModel, folder: Path) -> None:
    """The adapter as `PeftModel.save_pretrained` does: alpha in adapter_config.json, none in the weights' metadata."""
    from safetensors.torch import load_file, save_file

    file = adapters.save_lora(adapted, folder / "adapter_model.safetensors")
    tensors = {f"base_model.model.{name}": value for name, value in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 6}))


def test_a_folder_of_ours_by_its_id() -> None:
    model, plain = sd.load("org/own"), sd.load("digits-vp")
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x, 0.4).raw, plain(x, 0.4).raw)
    assert model.card["name"] == "org/own"
    assert sd.load(model.origin.reference).card["name"] == "org/own"


@pytest.mark.parametrize("name", ["org/flat", "org/beside"])
def test_a_network_of_diffusers_by_its_id(name: str) -> None:
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = unet().float()(x, 499).sample
    model = sd.load(name)
    assert torch.equal(model(x, 500).raw, expected)
    assert (model.card["name"], model.sde.n) == (name, 1000)


def test_parts_beside_the_index_are_read_by_the_library_too(cache: Path) -> None:
    read = diffusers.DDPMPipeline.from_pretrained("org/beside", cache_dir=str(cache), local_files_only=True)
    assert torch.equal(read.unet.conv_in.weight, sd.load("org/beside").net.network.conv_in.weight)


def test_a_pipeline_by_its_id() -> None:
    model, made = sd.load("org/pipe"), sd.from_diffusers(pipeline())
    runs = [
        sd.sample(one.given(**one.text_encoder(PROMPT)), x=start(), **sd.bridges.scheduler_options(one, 4))
        for one in (model, made)
    ]
    assert torch.equal(*runs)
    assert torch.equal(model.autoencoder.decode(runs[0]), made.autoencoder.decode(runs[1]))


@pytest.mark.parametrize("name", ["org/style", "org/named/files/three.safetensors", "org/peft"])
def test_an_adapter_by_its_id(name: str, adapted: sd.ScoreModel) -> None:
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = (m(x, 0.4).raw for m in (adapters.load_lora(sd.load("org/own"), name), adapted))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found - sd.load("digits-vp")(x, 0.4).raw).abs().max() > 0.1


def test_what_the_cache_does_not_hold() -> None:
    with pytest.raises(HubError, match=r"org/none: no such folder, and the hub does not give it .*check the name"):
        sd.load("org/none")
    with pytest.raises(sd.Error, match=r"org/own: it holds neither pytorch_lora_weights.safetensors nor adapter_model"):
        adapters.load_lora(sd.load("digits-vp"), "org/own")
    with pytest.raises(sd.Error, match=r"other.safetensors: no such file"):
        adapters.load_lora(sd.load("digits-vp"), "org/named/files/other.safetensors")
    with pytest.raises(sd.Error, match=r"styles/three.safetensors: no such file"):
        adapters.load_lora(sd.load("digits-vp"), "styles/three.safetensors")


def test_the_command_in_a_process_of_its_own(cache: Path, tmp_path: Path) -> None:
    words = ["sample", "org/pipe", "--prompt", PROMPT, "-n", "2", "--calls", "3", "--quiet", "--json", "--out", "out"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "PYTHONWARNINGS": "ignore"}
    place = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([place, environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "sdediff", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples_of"] == "images, decoded from the latents z"
    with np.load(tmp_path / "out" / "samples.npz") as stored:
        assert (stored["x"].shape, stored["z"].shape) == ((2, 3, 16, 16), (2, 4, 8, 8))


def test_the_command_with_an_adapter(tmp_path: Path, capsys: Any) -> None:
    words = ["sample", "org/own", "-n", "2", "--calls", "3", "--quiet", "--json", "--out"]
    assert main([*words, str(tmp_path / "a"), "--lora", "org/style:0.5"]) == 0
    expected = sd.sample(adapters.load_lora(sd.load("org/own"), "org/style", scale=0.5), (2, 1, 8, 8), calls=3)
    with np.load(tmp_path / "a" / "samples.npz") as stored:
        np.testing.assert_allclose(stored["x"], expected.numpy(), rtol=1e-5, atol=1e-5)
    capsys.readouterr()
    assert main(["sample", "org/none", "--out", str(tmp_path / "b")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_fetched_is_what_is_read() -> None:
    """Files as in Stable Diffusion's repository: checkpoints in one file and copies of weights are left there."""
    network = "diffusion_pytorch_model"
    read = {
        "model_index.json", "scheduler/scheduler_config.json", "feature_extractor/preprocessor_config.json",
        "text_encoder/config.json", "text_encoder/model.safetensors", "tokenizer/merges.txt", "tokenizer/vocab.json",
        "tokenizer/tokenizer_config.json", "unet/config.json", f"unet/{network}.safetensors", "vae/config.json",
        f"vae/{network}.safetensors", "tokenizer_2/spiece.model", "model.safetensors", "statistics.safetensors",
        f"{network}.safetensors", f"transformer/{network}-00001-of-00002.safetensors",
    }  # fmt: skip
    left = {
        "v1-5-pruned.safetensors", "v1-5-pruned-emaonly.safetensors", "v1-5-pruned.ckpt", f"unet/{network}.bin",
        f"unet/{network}.fp16.safetensors", f"unet/{network}.non_ema.safetensors", "text_encoder/pytorch_model.bin",
        "safety_checker/model.safetensors", "README.md", "text_encoder/model.fp16.safetensors",
    }  # fmt: skip
    patterns = {"allow_patterns": names._FILES, "ignore_patterns": names._LEFT}
    assert set(huggingface_hub.utils.filter_repo_objects(sorted(read | left), **patterns)) == read
