"""Adapters of a Stable Diffusion pipeline: one file, read by diffusers' pipelines and here."""

import copy

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("peft")
pytest.importorskip("transformers")

import sdediff as sd
from sdediff import adapters
from tests.bridges.small import MARKS
from tests.bridges.tiny_pipeline import parts, pipeline, start

pytestmark = MARKS


def test_an_adapter_made_here_is_read_by_the_library(tmp_path):
    model = sd.from_diffusers(pipeline())
    adapted = adapters.add_lora(model, rank=2, alpha=3.0)
    names = {name.rpartition(".attn")[2].partition(".")[2] for name, _ in adapted.net.adapted()}
    assert names == set(adapters.TARGETS)
    for weight in adapted.net.parameters():
        if weight.requires_grad:
            weight.data.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    file = adapters.save_lora(adapted, tmp_path / "pytorch_lora_weights.safetensors")
    plain, x, t = parts(4)[2], start(), torch.tensor(500)
    condition = model.text_encoder(["a red bag", "a hat"])
    with torch.no_grad():
        before = plain(x, t, **condition).sample
        ours = adapted.given(**condition)(x, 501).raw
        again = adapters.load_lora(model, file).given(**condition)(x, 501).raw
        pipe = pipeline()
        pipe.load_lora_weights(str(tmp_path), weight_name=file.name)
        theirs = pipe.unet(x, t, **condition).sample
        pipe.unload_lora_weights()
        after = pipe.unet(x, t, **condition).sample
    assert (ours - before).abs().max() > 1e-3
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again, ours, rtol=1e-5, atol=1e-5)
    assert torch.equal(after, before)
    merged = adapters.merge_lora(adapted).given(**condition)
    torch.testing.assert_close(merged(x, 501).raw, ours, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_the_library_is_read_here(tmp_path):
    import peft
    from diffusers import StableDiffusionPipeline

    pipe = pipeline()
    pipe.unet = copy.deepcopy(parts(4)[2])
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=list(adapters.TARGETS), init_lora_weights="gaussian")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe.unet.add_adapter(config)
        for name, weight in pipe.unet.named_parameters():
            if "lora_B" in name:
                weight.data.add_(0.2 * torch.randn(weight.shape))
    x, t, condition = start(), torch.tensor(500), torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = pipe.unet(x, t, condition).sample
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, peft.get_peft_model_state_dict(pipe.unet), unet_lora_adapter_metadata=config.to_dict()
    )
    model = adapters.load_lora(sd.from_diffusers(pipeline()), tmp_path / "pytorch_lora_weights.safetensors")
    found = model.given(encoder_hidden_states=condition)(x, 501).raw
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
