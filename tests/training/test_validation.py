"""Figures on held-out rows while a model trains, TensorBoard, peak memory, and the scaler of half precision."""

import dataclasses
import json
import os
import signal
import sys

import pytest
import torch

import sdediff as sd
from sdediff.datasets import errors
from sdediff.nets import MLP, Classifier, UNet
from sdediff.training import (
    ClassifierLoss,
    Draws,
    Objective,
    TrainingError,
    TrainingSettings,
    Validation,
    backend,
    build,
    run,
    train,
)
from sdediff.training import checkpoints as checkpoint_files

X = torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
SHORT = TrainingSettings(updates=6, batch=16, warmup=2, save_every=3, seed=5)
DIGITS = {"name": "digits", "levels": 17, "range": [-1.0, 1.0], "shape": [1, 8, 8]}


def model(**fields):
    return sd.ScoreModel(build(lambda: MLP(2, 16, 1, **fields), 1), sd.VP())


def images(**fields):
    card = {"data": DIGITS}
    return sd.ScoreModel(build(lambda: UNet(width=8, blocks=1, attention=2), 1), sd.EDM(), "edm", card=card, **fields)


def test_figures_are_those_of_the_public_functions_and_training_is_as_without_them():
    held_out, validation = X[40:], Validation(X[40:], every=4, likelihood_rows=4)
    log = train(model(), X[:40], SHORT, validation=validation)
    assert [check["update"] for check in log.checks] == [4, 6]
    assert log.losses == train(model(), X[:40], SHORT).losses
    last, report = log.checks[-1], sd.check(log.model, held_out)
    assert last["gain"] == pytest.approx(report.gain.value)
    assert last["gap"] == pytest.approx(report.gap.value)
    assert last["nats"] == pytest.approx(-sd.log_likelihood(log.model, held_out[:4], probes=1).log_prob.mean().item())
    assert last["held_out_loss"] == pytest.approx(
        Objective()(log.model, held_out, {}, Draws(5, 0, 0, 50)).mean().item()
    )
    assert log.peak_memory > 50 << 20


def test_levels_give_bits_and_images_a_grid(tmp_path):
    held_out = sd.data("digits")
    validation = Validation(held_out, rows=8, likelihood_rows=2, samples=4, calls=2)
    settings = TrainingSettings(updates=2, batch=8)
    log = train(images(), sd.data("digits", "train"), settings, Objective("edm"), out=tmp_path, validation=validation)
    (check,) = log.checks
    x = held_out.dequantised(0, range(2))
    bits = sd.bits_per_dim(sd.log_likelihood(log.model, x, probes=1), levels=17, range=(-1.0, 1.0)).mean().item()
    assert check["bits_per_dim"] == pytest.approx(bits)
    assert "gain" not in check  # fewer rows than the check needs
    assert (tmp_path / "samples" / "update-00000002.png").stat().st_size > 100
    assert json.loads((tmp_path / "checks.jsonl").read_text()) == check


def interrupt(update, loss):
    """Ctrl-C in the fourth update."""
    if update == 3:
        os.kill(os.getpid(), signal.SIGINT)


def test_a_run_that_goes_on_has_each_check_once(tmp_path):
    validation = Validation(X[40:], every=2, likelihood_rows=0)
    with pytest.raises(KeyboardInterrupt):
        train(model(), X[:40], SHORT, report=interrupt, out=tmp_path, validation=validation)
    train(model(), X[:40], SHORT, out=tmp_path, validation=validation)
    rows = [json.loads(line) for line in (tmp_path / "checks.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == [2, 4, 6]
    assert list(rows[-1]) == ["update", "held_out_loss", "gain", "gap"]


def test_a_classifier_has_a_loss_alone_and_a_marked_model_no_likelihood():
    net = build(lambda: Classifier(10, width=8, blocks=1, attention=2), 1)
    classifier = sd.ScoreModel(net, sd.EDM(), "x0", "sigma", card={"data": DIGITS})
    few = Validation(sd.data("digits"), rows=8)
    settings = TrainingSettings(updates=1, batch=8)
    log = train(classifier, sd.data("digits", "train"), settings, ClassifierLoss(), validation=few)
    assert list(log.checks[0]) == ["update", "held_out_loss"]
    marked = sd.ScoreModel(build(lambda: MLP(2, 16, 1), 1), sd.RectifiedFlow(), "velocity", velocity_only=True)
    log = train(marked, X, settings, Objective("velocity", coupling="ot"), validation=Validation(X[:20]))
    assert list(log.checks[0]) == ["update", "held_out_loss"]


@pytest.mark.parametrize(("fields", "match"), [
    ({"data": 3}, "give a DataSet"), ({"data": X, "every": 0}, "every=0"), ({"data": X, "calls": 1}, "calls=1"),
])  # fmt: skip
def test_validations_that_are_none_are_refused(fields, match):
    with pytest.raises(sd.Error, match=match):
        Validation(**fields)


def test_tensorboard_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(errors.MissingPackageError, match="tensorboard"):
        train(model(), X, SHORT, out=tmp_path, tensorboard=True)
    with pytest.raises(sd.Error, match="give out="):
        train(model(), X, SHORT, tensorboard=True)


def test_tensorboard_takes_scalars_and_grids(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    validation = Validation(sd.data("digits"), rows=8, likelihood_rows=0, samples=4, calls=2)
    settings = TrainingSettings(updates=2, batch=8)
    log = train(
        images(), sd.data("digits", "train"), settings, Objective("edm"), out=tmp_path, validation=validation,
        tensorboard=True,
    )  # fmt: skip
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(log.losses)
    assert [event.step for event in events.Images("samples")] == [2]


def scaled(settings, device):
    """accelerate on this CPU with the scaler that it has on CUDA, whose scale doubles every two updates."""
    made = backend.Accelerated(settings, device)
    made._accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    return made


def test_the_scaler_of_half_precision_goes_on_with_its_scale(tmp_path, monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setattr(run, "backend", scaled)
    half = dataclasses.replace(SHORT, precision="bf16")
    whole = train(model(), X, half, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(model(), X, half, report=interrupt, out=tmp_path / "stopped")
    rest = train(model(), X, half, out=tmp_path / "stopped")
    assert (rest.first, rest.losses) == (4, whole.losses[4:])
    scales = [
        json.loads((checkpoint_files.checkpoints(tmp_path / name)[-1] / "training.json").read_text())["backend"]
        for name in ("whole", "stopped")
    ]
    assert scales[0] == scales[1]
    assert scales[0]["scaler"]["scale"] == 64.0


def test_fp16_needs_an_accelerator():
    pytest.importorskip("accelerate")
    with pytest.raises(TrainingError, match='write precision="bf16"'):
        train(model(), X, dataclasses.replace(SHORT, precision="fp16"))
