"""The autoencoder and the text encoder of a pipeline, and what is said where one is missing or damaged."""

import json
import shutil

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch
from safetensors.torch import load_file, save_file

import sdediff as sd
from sdediff.bridges import BridgeError, DiffusersAutoencoder, TransformersText
from tests.bridges.small import MARKS, diffusers
from tests.bridges.tiny_pipeline import LENGTH, pipeline, start, tokenizer

pytestmark = MARKS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "tiny")


def test_folder_and_pipeline_are_one_model(saved):
    loaded, made = sd.load(saved), sd.from_diffusers(pipeline())
    condition = loaded.text_encoder("a red bag")["encoder_hidden_states"]
    assert torch.equal(condition, made.text_encoder("a red bag")["encoder_hidden_states"])
    assert torch.equal(loaded.autoencoder.decode(start()), made.autoencoder.decode(start()))
    assert loaded.card["latent"] == {"scaling_factor": 0.18215}
    assert not any(p.requires_grad for part in (loaded.autoencoder, loaded.text_encoder) for p in part.parameters())
    assert "autoencoder=DiffusersAutoencoder, text_encoder=TransformersText" in repr(loaded)


def test_types_reach_the_parts(saved):
    model = sd.load(saved, dtype=torch.bfloat16)
    assert next(model.autoencoder.parameters()).dtype == next(model.text_encoder.parameters()).dtype == torch.bfloat16
    assert model.autoencoder.decode(start()).dtype == torch.float32


def test_texts_become_what_the_pipeline_gives():
    pipe = pipeline()
    found = sd.from_diffusers(pipe).text_encoder(["a red bag", ""])["encoder_hidden_states"]
    for row, text in zip(found, ("a red bag", ""), strict=True):
        expected = pipe.encode_prompt(text, "cpu", 1, False)[0][0]
        assert torch.equal(row, expected)
    assert found.shape == (2, LENGTH, 8)


def test_encode_and_decode_scale_and_shift():
    vae = pipeline().vae
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        mean, std = (getattr(vae.encode(images).latent_dist, name) for name in ("mean", "std"))
        plain = DiffusersAutoencoder("AutoencoderKL", dict(vae.config), vae)
        torch.testing.assert_close(plain.encode(images), 0.18215 * mean)
        torch.testing.assert_close(plain.encode(images, start()), 0.18215 * (mean + std * start()))
        torch.testing.assert_close(plain.decode(plain.encode(images)), vae.decode(mean).sample)
        config = {**vae.config, "scaling_factor": 1.5305, "shift_factor": 0.0609}
        moved = DiffusersAutoencoder("AutoencoderKL", config, vae)
        torch.testing.assert_close(moved.encode(images), (mean - 0.0609) * 1.5305)
        torch.testing.assert_close(moved.decode(moved.encode(images)), vae.decode(mean).sample)
        by_channel = {**config, "latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0]}
        each = DiffusersAutoencoder("AutoencoderKL", by_channel, vae)
        means, stds = (torch.tensor(by_channel[name]).reshape(1, 4, 1, 1) for name in ("latents_mean", "latents_std"))
        torch.testing.assert_close(each.encode(images), (mean - means) * 1.5305 / stds)


@pytest.mark.parametrize("kind", ["VQModel", "AutoencoderTiny"])
def test_autoencoders_without_a_posterior(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = {"block_out_channels": (4, 4), "norm_num_groups": 2, "num_vq_embeddings": 8, "latent_channels": 2}
        tiny = {"encoder_block_out_channels": (4, 4), "decoder_block_out_channels": (4, 4), "latent_channels": 2,
                "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}  # fmt: skip
        options = {**blocks, "down_block_types": ("DownEncoderBlock2D",) * 2,
                   "up_block_types": ("UpDecoderBlock2D",) * 2} if kind == "VQModel" else tiny  # fmt: skip
        network = getattr(diffusers, kind)(**options).eval()
    autoencoder = DiffusersAutoencoder(kind, dict(network.config), network)
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        z = autoencoder.encode(images)
        assert autoencoder.decode(z).shape == images.shape
    with pytest.raises(sd.Error, match="encodes without noise"):
        autoencoder.encode(images, torch.zeros_like(z))


def test_a_prompt_that_is_too_long_names_the_length():
    encoder = sd.from_diffusers(pipeline()).text_encoder
    encoder("a" * (LENGTH - 2))
    with pytest.raises(BridgeError, match=r"17 tokens long, the encoder takes 16 \(tokenizer_config.json, model_"):
        encoder("a" * (LENGTH - 1))
    with pytest.raises(sd.Error, match="give a text, or a list of texts"):
        encoder(["a", 3])
    endless = tokenizer()
    endless.model_max_length = int(1e30)
    with pytest.raises(BridgeError, match="says its length: write limit=77"):
        TransformersText(endless, torch.nn.Linear(1, 1))


def edited(path, **changes):
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def removed(part):
    return lambda folder: shutil.rmtree(folder / part)


def changed(file, **changes):
    return lambda folder: edited(folder / file, **changes)


def cut(file):
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:500])


def without_file(file):
    return lambda folder: (folder / file).unlink()


def _weights(folder, part, change):
    path = folder / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def without(part, name):
    return lambda folder: _weights(folder, part, lambda tensors: tensors.pop(name))


def added(part, name):
    return lambda folder: _weights(folder, part, lambda tensors: tensors.update({name: torch.zeros(2)}))


DAMAGES = [
    (removed("vae"), "model_index.json: it names vae, and there is no folder .*vae"),
    (removed("text_encoder"), "model_index.json: it names text_encoder"),
    (removed("tokenizer"), "model_index.json: it names tokenizer"),
    (removed("unet"), "model_index.json: it names unet"),
    (removed("scheduler"), "model_index.json: it names scheduler"),
    (
        changed("scheduler/scheduler_config.json", _class_name="MyScheduler"),
        "scheduler_config.json: _class_name: unknown scheduler 'My'",
    ),
    (
        changed("scheduler/scheduler_config.json", beta_schedule="quartic"),
        "scheduler_config.json: unknown beta_schedule 'quartic'",
    ),
    (changed("vae/config.json", scaling_factor=None), r"vae.config.json: no scaling_factor: write .*0\.18215"),
    (changed("vae/config.json", scaling_factor="much"), "vae.config.json: scaling_factor='much'"),
    (changed("vae/config.json", shift_factor=[1]), "vae.config.json: shift_factor="),
    (changed("vae/config.json", latents_mean=[1, 2, 3, 4]), "latents_mean and latents_std belong together"),
    (
        changed("vae/config.json", block_out_channels=[4, 8]),
        r"vae.diffusion_pytorch_model.safetensors: .* is \(4,.*\), needed by config.json is \(8",
    ),
    (
        changed("unet/config.json", block_out_channels=[4, 16]),
        r"unet.diffusion_pytorch_model.safetensors: .* is \(8,.*\), needed by config.json is \(16",
    ),
    (changed("vae/config.json", layers_per_block=2), "vae.diffusion_pytorch_model.safetensors: no weights of "),
    (
        without("unet", "conv_in.bias"),
        r"unet.diffusion_pytorch_model.safetensors: no weights of conv_in.bias \(1 such\)",
    ),
    (
        without("vae", "decoder.conv_in.bias"),
        r"vae.diffusion_pytorch_model.safetensors: no weights of decoder.conv_in.bias \(1 such\)",
    ),
    (
        added("unet", "more.weight"),
        r"unet.diffusion_pytorch_model.safetensors: the network has no more.weight \(1 such\)",
    ),
    (
        changed("text_encoder/config.json", hidden_size=16),
        r"text_encoder.model.safetensors: .* is \(.*8.*\), needed by config.json is \(.*16",
    ),
    (changed("text_encoder/config.json", architectures=["os"]), "architectures='os' is no text encoder"),
    (changed("text_encoder/config.json", num_hidden_layers=2), "text_encoder.model.safetensors: no weights of "),
    (cut("vae/diffusion_pytorch_model.safetensors"), "vae: the autoencoder cannot be read"),
    (cut("text_encoder/model.safetensors"), "text_encoder: the text encoder cannot be read"),
    (cut("tokenizer/tokenizer.json"), "tokenizer: the tokenizer cannot be read"),
    (without_file("tokenizer/tokenizer.json"), "tokenizer: it holds neither tokenizer.json nor vocab.json"),
    (without_file("vae/diffusion_pytorch_model.safetensors"), "vae: the autoencoder cannot be read .*no file named"),
]


@pytest.mark.parametrize(("damage", "match"), DAMAGES, ids=[match[:40] for _, match in DAMAGES])
def test_a_damaged_folder_is_refused_by_file_and_field(folder, damage, match, capfd):
    damage(folder)
    with pytest.raises(BridgeError, match=match) as caught:
        sd.load(folder)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # the libraries' reports would stand beside the sentence


def test_parts_of_ones_own_are_checked():
    model = sd.load("digits-vp")
    with pytest.raises(sd.Error, match=r"encode\(images\), decode\(latents\)"):
        sd.ScoreModel(model.net, model.sde, autoencoder=torch.nn.Linear(2, 2))
