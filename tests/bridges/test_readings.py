"""What a scheduler's configuration says, without diffusers: process, parametrisation, clock, notes and refusals."""

import json
import math
import sys

import pytest
import torch

import sdediff as sd
from sdediff.bridges import BridgeError, reading_of
from sdediff.bridges.betas import SCHEDULES, table_of
from sdediff.bridges.clocks import angle_clock
from sdediff.cli import main


def scheduler(name: str, **config):
    return {"_class_name": f"{name}Scheduler", **config}


def test_betas_are_the_papers():
    betas = {name: make(1000, 1e-4, 0.02) for name, make in SCHEDULES.items()}
    assert betas["linear"][[0, 499, 999]].tolist() == pytest.approx([1e-4, 1e-4 + 0.0199 * 499 / 999, 0.02], rel=1e-12)
    assert betas["scaled_linear"][1].item() == pytest.approx((0.01 + (math.sqrt(0.02) - 0.01) / 999) ** 2, rel=1e-12)
    # Nichol and Dhariwal 2021: the table form of the cosine process, capped at 0.999.
    torch.testing.assert_close(betas["squaredcos_cap_v2"], sd.Cosine().betas(1000), rtol=1e-9, atol=1e-12)
    assert betas["sigmoid"][0].item() == pytest.approx(1e-4 + 0.0199 / (1 + math.exp(6)), rel=1e-12)
    assert betas["exp"].tolist() == pytest.approx([1 - math.exp(-0.012)] * 1000, rel=1e-12)


def test_given_betas_come_first_and_rescaling_ends_at_nothing():
    given = [0.1, 0.2, 0.4]
    table = table_of({"trained_betas": given, "beta_schedule": "linear"}, "DDIM")
    assert table == sd.Table.from_betas(given)
    config = {"rescale_betas_zero_snr": True, "beta_schedule": "scaled_linear", "beta_start": 8.5e-4, "beta_end": 0.012}
    assert table_of(config, "DDIM").lams[-1] == -math.inf
    euler = table_of(config, "EulerDiscrete")
    assert euler.alpha(torch.tensor([1000.0], dtype=torch.float64)).item() == pytest.approx(2**-12, rel=1e-12)
    assert euler.lams[:-1] == table_of(config, "DDIM").lams[:-1]


@pytest.mark.parametrize(
    ("config", "predicts", "time", "sde"),
    [
        (scheduler("DDPM", trained_betas=[0.1, 0.2]), "eps", "index", sd.Table.from_betas([0.1, 0.2])),
        (scheduler("EDMEuler", sigma_max=50.0), "edm", "c_noise", sd.EDM(T=50.0, t_min=0.002)),
        (scheduler("ScoreSdeVe", sigma_max=50.0), "score", "sigma", sd.VE(t_min=1e-5)),
        (scheduler("CosineDPMSolverMultistep"), "-edm", angle_clock, sd.EDM(T=500.0, t_min=0.3)),
    ],
)
def test_processes_and_clocks(config, predicts, time, sde):
    reading = reading_of(config)
    assert (reading.predicts, reading.time, reading.sde) == (predicts, time, sde)


def test_flows_read_a_thousand_times_t_and_leave_the_shift_to_the_grid():
    reading = reading_of(scheduler("FlowMatchEulerDiscrete", shift=3.0))
    model = sd.ScoreModel(lambda x, t: t[:, None].expand_as(x), reading.sde, reading.predicts, reading.time)
    assert model(torch.zeros(2, 3), 0.25).raw[0, 0] == 250
    assert reading.sde == sd.RectifiedFlow()
    assert "time_shift" in reading.notes[0]
    assert "shift=3" in reading.notes[0]
    assert reading_of(scheduler("FlowMatchEulerDiscrete")).notes == ()


def test_the_angle_clock_of_floats_and_of_tensors():
    level = sd.level(sd.EDM(), 2.0)
    assert angle_clock(level) == pytest.approx(2 / math.pi * math.atan(2.0), rel=1e-15)
    rows = sd.level(sd.EDM(), torch.tensor([2.0, 3.0], dtype=torch.float64))
    assert angle_clock(rows)[1].item() == pytest.approx(2 / math.pi * math.atan(3.0), rel=1e-15)


def test_what_sampling_does_is_noted_and_not_applied():
    config = scheduler(
        "DDPM", clip_sample=True, clip_sample_range=2.0, thresholding=True, variance_type="learned_range"
    )
    text = " ".join(reading_of(config).notes)
    assert "clips x0 to [-2, 2]" in text
    assert "thresholds x0" in text
    assert 'variance="learned_range"' in text
    assert reading_of(scheduler("DDIM", clip_sample=True)).range == (-1.0, 1.0)
    assert reading_of(scheduler("DDIM", clip_sample=False)).range is None


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (scheduler("LCM"), "distilled"),
        (scheduler("VQDiffusion"), "tokens"),
        (scheduler("DDIMM"), "did you mean 'DDIM"),
        ({}, "sd.ScoreModel"),
        (scheduler("DDIM", prediction_type="eps"), "epsilon"),
        (scheduler("DDIM", beta_schedule="quadratic"), "unknown beta_schedule"),
        (scheduler("DDIM", trained_betas=[0.5, 2.0]), "trained_betas|betas must lie"),
        (scheduler("DDIM", trained_betas="abc"), "betas"),
        (scheduler("DDIM", num_train_timesteps=10**12), "num_train_timesteps"),
        (scheduler("DDIM", beta_start="x"), "scheduler_config.json"),
        (scheduler("DDIM", prediction_type="flow_prediction"), "use_flow_sigmas=true"),
        (scheduler("DPMSolverMultistep", prediction_type="v_prediction", use_flow_sigmas=True), "v_prediction"),
        (scheduler("FlowMatchEulerDiscrete", invert_sigmas=True), "invert_sigmas"),
        (scheduler("EDMEuler", prediction_type="sample"), "prediction_type 'sample'"),
        (scheduler("EDMEuler", sigma_max="big"), "EDMEulerScheduler cannot be read"),
        (scheduler("ScoreSdeVe", sigma_min=5.0, sigma_max=1.0), "sigma_min"),
    ],
)
def test_refusals_are_sentences(config, match):
    with pytest.raises(BridgeError, match=match) as caught:
        reading_of(config)
    assert "\n" not in str(caught.value)


def test_without_the_library_a_folder_is_answered_with_what_to_install(tmp_path, monkeypatch, capsys):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", "in_channels": 1}))
    (tmp_path / "scheduler_config.json").write_text(json.dumps(scheduler("DDIM")))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(sd.Error, match=r"pip install 'sdediff\[bridges\]'"):
        sd.load(tmp_path)
    assert main(["import", str(tmp_path), "--to", str(tmp_path / "made")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
