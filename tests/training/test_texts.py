"""Networks trained together with the encoders of their texts, any of transformers."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("transformers")
pytest.importorskip("diffusers")

import torch
import transformers

import sdediff as sd
from sdediff.bridges import TransformersText
from sdediff.training import Objective, TextConditioned, TrainingSettings, train_with_texts
from tests.bridges.tiny_pipeline import LENGTH, pipeline, tokenizer

pytestmark = pytest.mark.extras
SHORT = TrainingSettings(updates=3, batch=4, rate=1e-2, warmup=0, average=0.0)
TEXTS = ["a red bag", "hat", "a hat", "shoe"]


def _encoder(kind: str) -> Any:
    """A text encoder of transformers of a few hundred weights."""
    small = {"vocab_size": 60, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "max_position_embeddings": 20}  # fmt: skip
    t5 = {"vocab_size": 60, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "t5":
            made = transformers.T5EncoderModel(transformers.T5Config(**t5))
        elif kind == "bert":
            made = transformers.BertModel(transformers.BertConfig(**small))
        else:
            made = transformers.CLIPTextModel(transformers.CLIPTextConfig(**small, bos_token_id=0, eos_token_id=1))
    return made.eval().requires_grad_(False)


def _model(kind: str) -> sd.ScoreModel:
    text = TransformersText(tokenizer(), _encoder(kind), "tokens", limit=LENGTH)
    net = sd.training.build(lambda: sd.nets.UNet(width=8, multiples=(1,), blocks=1, attention=2, tokens=8))
    net.last.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    return sd.ScoreModel(net, sd.VP(), text_encoder=text)


@pytest.mark.parametrize("kind", ["clip", "t5", "bert"])
def test_network_and_encoder_are_fitted_together(kind: str) -> None:
    model = _model(kind)
    x = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    parts = (model.net, model.text_encoder.encoder)
    before = [[weight.clone() for weight in part.parameters()] for part in parts]
    log = train_with_texts(model, {"x": x, "texts": TEXTS}, SHORT, Objective(drop=0.5))
    assert log.model is model
    assert len(log.losses) == 3
    for part, old in zip(parts, before, strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(part.parameters(), old, strict=True))
        assert not part.training
    assert not any(weight.requires_grad for weight in parts[1].parameters())
    tokens = model.text_encoder(TEXTS[:2])["tokens"]
    guided = sd.guidance.classifier_free(model.given(tokens=tokens), 2.0)
    assert sd.sample(guided, (2, 1, 4, 4), steps=2).isfinite().all()


def test_filling_is_hidden_from_encoders_with_a_mask() -> None:
    text = _model("t5").text_encoder
    assert text.masked
    ids = text.ids("hat")
    other = ids.clone()
    other[:, 0] = torch.where(ids[:, 1] == 1, ids[:, 0], 7)
    shown = int(ids[0, 1].sum())
    torch.testing.assert_close(text.hidden(other)[:, :shown], text.hidden(ids)[:, :shown])


def test_dropped_texts_are_the_networks_row_or_the_empty_text() -> None:
    model = _model("clip")
    x, t = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(2)), torch.full((2,), 0.5)
    joint = TextConditioned(model.net, model.text_encoder)
    ids = model.text_encoder.ids(TEXTS[:2])
    ids[1] = joint.null_conditions()["ids"]
    with torch.no_grad():
        found = joint(x, t, ids)
        expected = model.net(x, t, tokens=model.text_encoder(TEXTS[:2])["tokens"])
        torch.testing.assert_close(found[:1], expected[:1])
        torch.testing.assert_close(found[1:], model.net(x, t)[1:])
    stable = sd.from_diffusers(pipeline())
    joint = TextConditioned(stable.net, stable.text_encoder)
    assert torch.equal(joint.null_conditions()["ids"], stable.text_encoder.ids("")[0])


def test_what_is_no_text_of_a_sample_is_refused() -> None:
    model, x = _model("clip"), torch.zeros(4, 1, 4, 4)
    for given, match in (
        ({"x": x, "texts": TEXTS[:2]}, "2 texts for 4 samples"),
        ({"x": x}, "a list of N texts"),
        ({"x": x, "texts": ["a" * LENGTH, *TEXTS[1:]]}, "the encoder takes 16"),
    ):
        with pytest.raises(sd.Error, match=match):
            train_with_texts(model, given, SHORT)
    with pytest.raises(sd.Error, match="out= keeps no texts"):
        train_with_texts(model, {"x": x, "texts": TEXTS}, SHORT, out="run")
    with pytest.raises(sd.Error, match="text_encoder=None: give the model a TransformersText"):
        train_with_texts(sd.load("digits-vp"), {"x": x, "texts": TEXTS}, SHORT)
