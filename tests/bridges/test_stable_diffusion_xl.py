"""Stable Diffusion XL's two text encoders, and pipelines with more, beside the library's own pipeline."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch
import transformers

import sdediff as sd
from sdediff import bridges
from sdediff.cli import main
from tests.bridges.small import MARKS, diffusers
from tests.bridges.tiny_pipeline import LENGTH, parts, scheduler, start, tokenizer

pytestmark = MARKS
PROMPT, NEGATIVE, SCALE = "a red bag", "a bad hat", 4.0


@functools.cache
def _parts() -> tuple[Any, ...]:
    """Two text encoders and a network that reads both, in eval mode."""
    config = transformers.CLIPTextConfig(
        vocab_size=54, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=LENGTH, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=8,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        unet = diffusers.UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(4, 8),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), norm_num_groups=4, cross_attention_dim=16,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 2),
            addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=56,
        )  # fmt: skip
        made = transformers.CLIPTextModel(config), transformers.CLIPTextModelWithProjection(config), unet
        for part in made:
            for weight in part.parameters():
                weight.data.add_(0.05 * torch.randn(weight.shape))
    return tuple(part.eval() for part in made)


def _pipeline(kind: str = "EulerDiscreteScheduler") -> Any:
    first, second, unet = _parts()
    pipe = diffusers.StableDiffusionXLPipeline(
        parts(4)[0], first, second, tokenizer(), tokenizer(), unet, scheduler(kind), add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("kind", ["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"])
def test_guidance_with_a_negative_prompt_is_the_librarys(kind: str) -> None:
    pipe = _pipeline(kind)
    model = sd.from_diffusers(pipe)
    theirs = pipe(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=6, guidance_scale=SCALE, latents=start(1),
        height=16, width=16, output_type="latent",
    ).images  # fmt: skip
    options = bridges.scheduler_options(model, 6)
    first = sd.level(model.sde, options["grid"][0].item())
    frame = first.alpha if kind.startswith("Euler") else 1.0
    x = (start(1).double() * float(pipe.scheduler.init_noise_sigma) * frame).float()
    given = model.given(**model.text_encoder(PROMPT))
    guided = sd.guidance.classifier_free(given, SCALE, negative=model.text_encoder(NEGATIVE))
    ours = sd.sample(guided, x=x, **options)
    assert ((ours - theirs).abs().max() / theirs.abs().max()).item() < 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("xl") / "pipe"
    _pipeline().save_pretrained(made)
    return made


def test_a_folder_has_both_encoders(folder: Path, tmp_path: Path) -> None:
    model, expected = sd.load(folder), sd.from_diffusers(_pipeline()).text_encoder([PROMPT, "hat"])
    found = model.text_encoder([PROMPT, "hat"])
    assert torch.equal(found["encoder_hidden_states"], expected["encoder_hidden_states"])
    assert torch.equal(found["added_cond_kwargs"]["text_embeds"], expected["added_cond_kwargs"]["text_embeds"])
    assert found["added_cond_kwargs"]["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]] * 2
    words = ["--prompt", "a red bag", "--negative", "hat", "--guidance", "3", "-n", "2", "--calls", "3", "--quiet"]
    assert main(["sample", str(folder), *words, "--out", str(tmp_path / "out")]) == 0
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    shutil.rmtree(damaged / "tokenizer_2")
    with pytest.raises(bridges.BridgeError, match="it names tokenizer_2"):
        sd.load(damaged)


def test_three_encoders_are_said_not_to_be_read(folder: Path, tmp_path: Path, capsys: Any) -> None:
    more = shutil.copytree(folder, tmp_path / "more")
    shutil.copytree(more / "text_encoder", more / "text_encoder_3")
    index = json.loads((more / "model_index.json").read_text())
    index["text_encoder_3"] = index["text_encoder"]
    (more / "model_index.json").write_text(json.dumps(index))
    model = sd.load(more)
    assert model.text_encoder is None
    assert any("its text encoders are not read" in note for note in model.card["notes"])
    assert main(["sample", str(more), "--prompt", "hat", "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "its text encoders are not read" in capsys.readouterr().err
