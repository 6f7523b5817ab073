"""Latent models in folders: the autoencoder and the text encoder beside the network, and the commands on them."""

import json

import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch

import sdediff as sd
from sdediff.cli import main
from sdediff.hub import HubError
from tests.bridges.small import MARKS
from tests.bridges.tiny_pipeline import pipeline, start

pytestmark = MARKS


@pytest.fixture
def latent():
    """A latent model with our U-Net, whose tokens are those of the pipeline's text encoder."""
    read = sd.from_diffusers(pipeline())
    net = sd.training.build(lambda: sd.nets.UNet(channels_in=4, width=8, blocks=1, attention=2, tokens=8))
    for weight in net.parameters():
        weight.data.add_(0.05)
    text = sd.bridges.TransformersText(read.text_encoder.tokenizer, read.text_encoder.encoder, "tokens", limit=12)
    card = {"data": {"shape": [4, 8, 8]}}
    return sd.ScoreModel(net.eval(), sd.VP(), autoencoder=read.autoencoder, text_encoder=text, card=card)


def test_a_latent_model_is_saved_whole(latent, tmp_path):
    again = sd.load(sd.save(latent, tmp_path / "model"))
    tokens = again.text_encoder(["a red bag", "hat"])["tokens"]
    assert tokens.shape == (2, 12, 8)
    assert torch.equal(tokens, latent.text_encoder(["a red bag", "hat"])["tokens"])
    assert torch.equal(again.autoencoder.decode(start()), latent.autoencoder.decode(start()))
    assert torch.equal(again.given(tokens=tokens)(start(), 0.5).raw, latent.given(tokens=tokens)(start(), 0.5).raw)
    plain = sd.ScoreModel(latent.net, latent.sde)
    sd.save(plain, tmp_path / "model")
    assert not (tmp_path / "model" / "vae").exists()
    assert sd.load(tmp_path / "model").autoencoder is None


def test_a_pipeline_is_saved_as_a_folder_of_ours(tmp_path):
    model = sd.from_diffusers(pipeline())
    again = sd.load(sd.save(model, tmp_path / "model"))
    condition = again.text_encoder("a red bag")
    options = sd.bridges.scheduler_options(again, 4)
    assert torch.equal(
        sd.sample(again.given(**condition), x=start(), **options),
        sd.sample(model.given(**condition), x=start(), **options),
    )


def test_parts_that_a_folder_cannot_hold_and_damaged_ones(latent, tmp_path):
    with pytest.raises(HubError, match="text_encoder is a function, which a folder does not hold"):
        sd.save(sd.ScoreModel(latent.net, latent.sde, text_encoder=lambda texts: {}), tmp_path / "none")
    folder = sd.save(latent, tmp_path / "model")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(HubError, match="vae: the autoencoder cannot be read"):
        sd.load(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "autoencoder": None, "text_encoder": {"name": "a b"}}))
    with pytest.raises(HubError, match="write its name and its limit"):
        sd.load(folder)


def test_images_in_the_place_of_latents_are_refused(latent):
    with pytest.raises(sd.Error, match=r"takes latents of shape \(4, 8, 8\): write model.autoencoder.encode\(images\)"):
        sd.log_likelihood(latent, torch.zeros(1, 3, 16, 16))


def test_the_command_writes_images_and_latents(latent, tmp_path, capsys):
    folder = sd.save(latent, tmp_path / "model")
    words = ["sample", str(folder), "--prompt", "a red bag", "-n", "2", "--calls", "3", "--json", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["samples_of"] == "images, decoded from the latents z"
    with np.load(tmp_path / "out" / "samples.npz") as stored:
        x, z = stored["x"], stored["z"]
    assert (x.shape, z.shape) == ((2, 3, 16, 16), (2, 4, 8, 8))
    assert (tmp_path / "out" / "samples.png").is_file()
    tokens = latent.text_encoder("a red bag")["tokens"]
    expected = sd.sample(latent.given(tokens=tokens), (2, 4, 8, 8), calls=3)
    np.testing.assert_allclose(z, expected.numpy(), rtol=1e-4, atol=1e-4)
    assert main(["sample", str(folder), "--prompt", "a" * 30, "--out", str(tmp_path / "b"), "--quiet"]) == 2
    assert "32 tokens long, the encoder takes 12" in capsys.readouterr().err
