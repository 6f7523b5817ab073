"""recommend, check, bench and likelihoods of a latent model under a text: is a number of latents or of images?"""

from __future__ import annotations

import json

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch

import sdediff as sd
from sdediff.cli import main
from tests.bridges.small import MARKS
from tests.bridges.tiny_pipeline import pipeline

pytestmark = MARKS
Z = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def _model() -> sd.ScoreModel:
    """A pipeline with its autoencoder, under a prompt that is the same for all samples."""
    model = sd.from_diffusers(pipeline())
    return model.given(**model.text_encoder("a red bag"))


def _small() -> sd.ScoreModel:
    """A latent model whose network, ours, takes a millisecond."""
    read = sd.from_diffusers(pipeline())
    net = sd.training.build(lambda: sd.nets.UNet(channels_in=4, width=4, multiples=(1,), blocks=1, tokens=8)).eval()
    text = sd.bridges.TransformersText(read.text_encoder.tokenizer, read.text_encoder.encoder, "tokens")
    card = {"data": {"shape": [4, 8, 8]}}
    return sd.ScoreModel(net, sd.VP(), autoencoder=read.autoencoder, text_encoder=text, card=card)


def test_a_recommendation_is_of_latents() -> None:
    model = _small()
    prompted = model.given(**model.text_encoder("a red bag"))
    found = sd.recommend(prompted, calls=3, candidates=["ddim", "dpmpp_2m"], starts=4)
    assert found.of == "latents"
    assert "exact flow, of latents" in " ".join(str(found).split())
    assert repr(found).endswith("of latents)")
    plain = sd.recommend(sd.target("target_m").model(sd.VP()), (2,), calls=3, candidates=["ddim", "dpmpp_2m"], starts=4)
    assert plain.of == "samples"
    assert "latents" not in str(plain)


def test_a_check_is_of_latents() -> None:
    report = sd.check(_model(), Z)
    assert report.of == "latents"
    assert "64 rows of latents" in str(report)
    assert report.to_dict()["of"] == "latents"


def test_a_sweep_is_of_latents() -> None:
    run = {"seeds": 1, "samples": 20, "distances": ["energy"], "check": False}
    report = sd.bench({"bags": _model()}, ["ddim", "dpmpp_2m"], [2], data=Z, **run)
    assert report.of_latents == ["bags"]
    assert {row.task for row in report.rows} == {"bags"}
    assert "bags: both are of latents, not of images" in report._repr_html_()
    with pytest.raises(sd.Error, match=r"takes latents of shape \(4, 8, 8\)"):
        sd.bench({"bags": _model()}, ["ddim"], [2], data=torch.zeros(8, 3, 16, 16), **run)


def test_a_log_density_is_of_latents_and_a_bound_of_images() -> None:
    model, zeros = _model(), torch.zeros(1, dtype=torch.float64)
    options = {"method": "ode", "trace": "rademacher", "probes": 1, "rtol": 0.3, "atol": 0.3, "t0": 100.0}
    with pytest.raises(sd.Error, match="log p of a latent is not that of an image"):
        sd.log_likelihood(model, Z[:1], **options)
    found = sd.log_likelihood(model, Z[:1], autoencoder=zeros, **options)
    assert found.of == "latents"
    assert repr(found).partition(": ")[0].endswith("of latents")
    assert sd.log_likelihood(model, Z[:1], autoencoder=zeros + 1, **options).of.startswith("images")
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert sd.likelihood.encoder_decoder_bound(model, image, std=0.5, draws=2, **options).of == "images"


def test_the_command_says_what_is_recommended_for(tmp_path, capsys) -> None:
    folder = sd.save(_small(), tmp_path / "small")
    words = ["recommend", str(folder), "--prompt", "hat", "--calls", "2", "--solver", "ddim", "--starts", "2"]
    assert main([*words, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["of"] == "latents"
