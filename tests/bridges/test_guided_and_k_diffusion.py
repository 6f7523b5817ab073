"""Checkpoints of guided-diffusion and k-diffusion: their denoised states beside ours, their settings, refusals."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

import sdediff as sd
from sdediff.bridges import BridgeError
from tests.bridges.foreign import F64, Small, small, states

FLAGS = {"noise_schedule": "linear", "diffusion_steps": 1000, "rescale_timesteps": False, "learn_sigma": False}


def guided(tmp_path, out=1):
    torch.save(small(out=out).state_dict(), tmp_path / "ema_0.9999_100.pt")
    return tmp_path / "ema_0.9999_100.pt"


def bars(schedule, n):
    """gaussian_diffusion's alphas_cumprod: linear betas scaled by 1000/n, or the cosine's, capped at 0.999."""
    if schedule == "linear":
        betas = torch.linspace(0.1 / n, 20 / n, n, dtype=F64)
    else:
        u = torch.arange(n + 1, dtype=F64) / n
        curve = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - betas, 0)


@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize(("schedule", "n"), [("linear", 1000), ("linear", 4000), ("cosine", 400)])
def test_the_denoised_state_is_guided_diffusions(schedule, n, rescaled, tmp_path):
    flags = {**FLAGS, "noise_schedule": schedule, "diffusion_steps": n, "rescale_timesteps": rescaled}
    model = sd.from_guided_diffusion(guided(tmp_path), Small, **flags)
    x = states()
    for index in (0, n // 3, n - 1):
        bar = bars(schedule, n)[index]
        clock = torch.full((2,), index * (1000 / n if rescaled else 1.0), dtype=F64)
        expected = (x - (1 - bar).sqrt() * small()(x, clock)) / bar.sqrt()
        torch.testing.assert_close(model(x, index + 1.0).x0, expected, rtol=1e-6, atol=1e-6)


def test_learned_variances_labels_and_x0(tmp_path):
    model = sd.from_guided_diffusion(guided(tmp_path, 2), small(out=2), **{**FLAGS, "learn_sigma": True})
    x, labels = states(), torch.tensor([3, 8])
    prediction = model.given(y=labels)(x, 500)
    whole = small(out=2)(x, torch.full((2,), 499.0, dtype=F64), labels)
    torch.testing.assert_close(prediction.raw, whole[:, :1])
    torch.testing.assert_close(prediction.extra, whole[:, 1:])
    assert "learned_range" in model.card["notes"][0]
    assert sd.sample(model, (2, 1, 6, 6), solver=sd.solver("ddpm", variance="learned_range"), steps=3).isfinite().all()
    plain = sd.from_guided_diffusion(guided(tmp_path), Small, predict_xstart=True, **FLAGS)
    assert plain.predicts == "x0"


def test_flags_are_asked_for_and_compared_with_the_weights(tmp_path):
    for flags, match in (
        ({}, "do not hold noise_schedule, diffusion_steps, rescale_timesteps, learn_sigma: write"),
        ({**FLAGS, "learn_sigma": True}, "as many channels as it reads"),
        ({**FLAGS, "noise_schedule": "squared"}, "unknown noise_schedule"),
    ):
        with pytest.raises(BridgeError, match=match):
            sd.from_guided_diffusion(guided(tmp_path), Small, **flags)
    with pytest.raises(BridgeError, match="gives 2 channels for 1: write True"):
        sd.from_guided_diffusion(guided(tmp_path, 2), small(out=2), **FLAGS)
    with pytest.raises(sd.Error, match="diffusion_steps"):
        sd.from_guided_diffusion(guided(tmp_path), Small, **{**FLAGS, "diffusion_steps": 1})
    with pytest.raises(sd.Error, match="learn_sigma"):
        sd.from_guided_diffusion(guided(tmp_path), Small, **{**FLAGS, "learn_sigma": "yes"})


K = {"model": {"input_channels": 1, "input_size": [6, 6], "sigma_data": 0.6, "sigma_min": 0.01, "sigma_max": 50}}


def denoised(network, x, sigma, data):
    """k-diffusion's Denoiser: EDM's preconditioning around a network that is given sigma itself."""
    norm = math.sqrt(sigma**2 + data**2)
    output = network(x / norm, torch.full((len(x),), sigma, dtype=F64))
    return output * sigma * data / norm + x * data**2 / norm**2


@pytest.mark.parametrize("kind", ["slim", "training", "raw"])
def test_the_denoised_state_is_k_diffusions(kind, tmp_path):
    if kind == "training":
        path = tmp_path / "model_00010000.pth"
        torch.save({"config": K, "model": small().state_dict(), "model_ema": small(1).state_dict(), "step": 1}, path)
        model = sd.from_k_diffusion(path, Small)
        assert torch.equal(sd.from_k_diffusion(path, Small, ema=False).net.out[2].weight, small().out[2].weight)
    else:
        path = tmp_path / "slim.safetensors"
        metadata = {"config": json.dumps(K)} if kind == "slim" else {}
        save_file(small(1).state_dict(), path, metadata=metadata)
        model = sd.from_k_diffusion(path, Small, settings=None if kind == "slim" else K)
    assert (model.sde, model.sigma_data) == (sd.EDM(T=50.0, t_min=0.01), 0.6)
    assert model.card["data"] == {"shape": [1, 6, 6], "range": [-1.0, 1.0]}
    for sigma in (0.05, 1.0, 40.0):
        x = sigma * states()
        torch.testing.assert_close(model(x, sigma).x0, denoised(small(1), x, sigma, 0.6), rtol=1e-9, atol=1e-9)


def test_k_diffusions_defaults_and_refusals(tmp_path):
    path = tmp_path / "slim.safetensors"
    save_file(small().state_dict(), path, metadata={"config": json.dumps({"model": {"input_channels": 1}})})
    assert sd.from_k_diffusion(path, Small).sigma_data == 1.0
    assert sd.from_k_diffusion(path, Small).sde == sd.EDM(T=80.0, t_min=0.002)
    (tmp_path / "config.json").write_text(json.dumps(K))
    assert sd.from_k_diffusion(path, Small, settings=tmp_path / "config.json").sigma_data == 0.6
    with pytest.raises(BridgeError, match="settings="):
        sd.from_k_diffusion(path, Small, settings=tmp_path / "none.json")
    with pytest.raises(BridgeError, match="sigma_data=-1"):
        sd.from_k_diffusion(path, Small, settings={"model": {"sigma_data": -1}})
    with pytest.raises(sd.Error, match="sigma_max of the configuration"):
        sd.from_k_diffusion(path, Small, settings={"model": {"sigma_max": "x"}})
    save_file(small().state_dict(), path, metadata={"config": "[" * 100_000})
    with pytest.raises(BridgeError, match="write settings="):
        sd.from_k_diffusion(path, Small)
    save_file(small().state_dict(), path)
    with pytest.raises(BridgeError, match="write settings="):
        sd.from_k_diffusion(path, Small)
    torch.save({"a": 1}, tmp_path / "a.pth")
    with pytest.raises(BridgeError, match="model_ema"):
        sd.from_k_diffusion(tmp_path / "a.pth", Small)
