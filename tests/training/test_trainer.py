"""The trainer: resumption to the bit, accumulation, averages, batches of every form, faults, Ctrl-C."""

import copy
import errno
import json
import math
import os
import signal

import pytest
import torch
from torch import nn

import sdediff as sd
from sdediff.nets import MLP
from sdediff.training import (
    LossHistory,
    Objective,
    TrainingError,
    TrainingSettings,
    VariationalBound,
    VariationalDiffusion,
    build,
    train,
)
from sdediff.training import checkpoints as checkpoint_files
from sdediff.training.averages import Average, decay_of, power_exponent

TABLE = sd.Table.from_betas(torch.linspace(0.01, 0.6, 8, dtype=torch.float64))
X = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
SHORT = TrainingSettings(updates=12, batch=16, warmup=3, save_every=4, seed=5)


class Dropping(nn.Module):
    """A network that draws from torch's global generator in training."""

    def __init__(self):
        super().__init__()
        self.net, self.dropout = MLP(2, 16, 1, classes=3), nn.Dropout(0.3)

    def forward(self, x, t, label=None):
        return self.net(self.dropout(x), t, label)


def model(**fields):
    return sd.ScoreModel(build(lambda: MLP(2, 16, 1, **fields), 1), sd.VP())


def learned():
    net, process = build(lambda: MLP(2, 16, 1), 1), sd.LearnedVP(-6.0, 4.0, width=8, learn_ends=True)
    return sd.ScoreModel(net, process, time="lam")


CASES = {
    "denoising": (model, lambda: Objective()),
    "dropped labels": (lambda: model(classes=3), lambda: Objective(drop=0.3)),
    "learned schedule": (learned, lambda: VariationalDiffusion()),
    "importance": (
        lambda: sd.ScoreModel(build(lambda: MLP(2, 16, 1, variance=True), 1), TABLE),
        lambda: VariationalBound(0.0, 1.0, stop_mean=False, history=LossHistory(8, length=2)),
    ),
}


def weights(given):
    parts = [given.net, given.sde] if isinstance(given.sde, nn.Module) else [given.net]
    return {f"{i}.{k}": v for i, part in enumerate(parts) for k, v in part.state_dict().items()}


def interrupting(at):
    return lambda update, loss: os.kill(os.getpid(), signal.SIGINT) if update == at else None


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(case, tmp_path):
    make, objective = CASES[case]
    data = (X, torch.arange(40) % 3) if case == "dropped labels" else X
    whole = train(make(), data, SHORT, objective())
    with pytest.raises(KeyboardInterrupt):
        train(make(), data, SHORT, objective(), interrupting(6), out=tmp_path)
    assert [p.name for p in checkpoint_files.checkpoints(tmp_path)] == ["update-00000004", "update-00000007"]
    rest = train(make(), data, SHORT, objective(), out=tmp_path)
    assert rest.first == 7
    assert rest.losses == whole.losses[7:]
    expected, found = weights(whole.model), weights(rest.model)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == list(range(12))
    assert tuple(row["loss"] for row in rows) == whole.losses


def test_the_folder_holds_a_model_and_what_it_was_trained_with(tmp_path):
    log = train(model(), X, SHORT, out=tmp_path, config={"name": "short"})
    again = sd.load(tmp_path / "model")
    assert all(torch.equal(v, weights(again)[k]) for k, v in weights(log.model).items())
    newest = checkpoint_files.checkpoints(tmp_path)[-1]
    assert torch.equal(sd.load(newest)(X, 0.5).eps, again(X, 0.5).eps)
    facts = json.loads((newest / "training.json").read_text())
    assert facts["settings"]["rate"] == SHORT.rate
    assert facts["config"] == {"name": "short"}
    assert not (tmp_path / "checkpoints").joinpath("update-00000000").exists()  # two are kept


def test_what_was_frozen_stays():
    process = sd.LearnedVP(-6.0, 4.0, width=8)
    given = sd.ScoreModel(build(lambda: MLP(2, 16, 1), 1), process, time="lam")
    given.net.embed.requires_grad_(False)
    before = {**given.net.state_dict(), "slope": process.slope}
    before = {name: value.clone() for name, value in before.items()}
    train(given, X, TrainingSettings(updates=5, batch=8, average=0.0), VariationalDiffusion())
    assert process.ends.tolist() == [-6.0, 4.0]
    assert not torch.equal(before["slope"], process.slope)
    changed = {name for name, value in given.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith("embed") for name in changed)


def test_dropout_does_not_depend_on_where_a_run_began():
    before = torch.random.get_rng_state()
    one, two = (
        train(sd.ScoreModel(build(Dropping, 1), sd.VP()), X, TrainingSettings(updates=5, batch=8)) for _ in range(2)
    )
    assert one.losses == two.losses
    assert torch.equal(before, torch.random.get_rng_state())


def test_parts_of_a_batch_are_the_whole():
    def run(accumulate):
        settings = TrainingSettings(updates=30, batch=16, accumulate=accumulate, rate=1e-2, warmup=0)
        given = sd.ScoreModel(build(lambda: MLP(2, 16, 1).double(), 1), sd.VP())
        return train(given, X.double(), settings)

    whole, parts = run(1), run(4)
    torch.testing.assert_close(torch.tensor(parts.losses), torch.tensor(whole.losses), rtol=1e-10, atol=0)
    for name, value in weights(whole.model).items():
        torch.testing.assert_close(weights(parts.model)[name], value, rtol=1e-9, atol=1e-10)


def test_karras_2024_power_function_averages():
    assert power_exponent(0.05) == pytest.approx(16.9721986023, rel=1e-11)
    assert power_exponent(0.10) == pytest.approx(6.93720393760, rel=1e-11)
    value = nn.Linear(1, 1, bias=False).double()
    average, settings = Average(copy.deepcopy(value)), TrainingSettings(average_width=0.10)
    for t in range(1, 101):
        with torch.no_grad():
            value.weight.fill_(t)
        average.follow(value, decay_of(settings, t))
    assert average.modules.weight.item() == pytest.approx(89.3042042773, rel=1e-11)
    plain = TrainingSettings(average=0.9)
    assert decay_of(plain, 1) == 0.1  # warm-up: (1 + n)/(10 + n) of the updates before
    assert decay_of(plain, 10**6) == 0.9


def test_batches_of_every_form_are_one():
    labels = torch.arange(16) % 3
    forms = [
        [(X[:16], labels)] * 3, [{"x": X[:16], "label": labels}] * 3, [(X[:16], {"label": labels})] * 3,
    ]  # fmt: skip
    settings = TrainingSettings(updates=3, warmup=0)
    found = [train(model(classes=3), iter(form), settings).losses for form in forms]
    assert found[0] == found[1] == found[2]
    assert found[0] != train(model(classes=3), iter([X[:16]] * 3), settings).losses
    data = sd.data("digits", "train")
    net = build(lambda: sd.nets.UNet(width=8, blocks=1, attention=2, classes=10), 0)
    card = {"data": {"levels": 17, "range": [-1, 1], "shape": [1, 8, 8]}}
    log = train(sd.ScoreModel(net, sd.VP(), card=card), data, TrainingSettings(updates=2, batch=8))
    assert len(log.losses) == 2


def test_rows_are_each_taken_once_an_epoch():
    from sdediff.training.batches import Rows

    rows = Rows(torch.arange(10.0)[:, None], {}, (-1.0, 1.0), 3)
    taken = torch.cat([rows.take(update, 4, range(4)).x for update in range(5)]).flatten()
    assert taken[:10].sort().values.tolist() == taken[10:].sort().values.tolist() == list(range(10))
    assert taken[:10].tolist() != taken[10:].tolist()
    halves = torch.cat([rows.take(2, 4, part).x for part in (range(2), range(2, 4))]).flatten()
    assert torch.equal(halves, rows.take(2, 4, range(4)).x.flatten())


def _full(*args):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    whole = train(model(), X, SHORT)

    def fill(update, loss):
        if update == 5:
            monkeypatch.setattr(checkpoint_files, "save_file", _full)

    with pytest.raises(TrainingError, match=r"update-00000008.*No space left.*update-00000004, stays"):
        train(model(), X, SHORT, None, fill, out=tmp_path)
    monkeypatch.undo()
    assert not list((tmp_path / "checkpoints").glob(".*"))
    assert train(model(), X, SHORT, out=tmp_path).losses == whole.losses[4:]


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(model(), X, SHORT, out=tmp_path)
    newest = checkpoint_files.checkpoints(tmp_path)[-1]
    more = TrainingSettings(updates=14, batch=16, warmup=3, save_every=4, seed=5)
    for damage in (lambda p: p.write_bytes(p.read_bytes()[:-100]), lambda p: p.write_bytes(b"")):
        damage(newest / "training.safetensors")
        with pytest.raises(TrainingError, match=r"update-00000012: cannot be read .*the one before"):
            train(model(), X, more, out=tmp_path)
    (newest / "training.json").write_text("[" * 100000)
    with pytest.raises(TrainingError, match="cannot be read"):
        train(model(), X, more, out=tmp_path)


def test_a_checkpoint_of_other_settings_or_networks_is_refused(tmp_path):
    train(model(), X, SHORT, out=tmp_path)
    other = TrainingSettings(updates=12, batch=16, warmup=3, rate=1e-3, seed=5)
    with pytest.raises(TrainingError, match=r"rate=0.001, and the checkpoint .* was made with 0.002"):
        train(model(), X, other, out=tmp_path)
    with pytest.raises(TrainingError, match="is of another network"):
        train(sd.ScoreModel(MLP(2, 8, 1), sd.VP()), X, SHORT, out=tmp_path)
    with pytest.raises(TrainingError, match="holds checkpoints up to update-00000012"):
        train(model(), X, SHORT, out=tmp_path, resume=False)


def test_data_that_cannot_be_trained_on_are_named():
    bad = X.clone()
    bad[7, 1] = math.nan
    with pytest.raises(TrainingError, match="data: row 7 holds NaN or Inf"):
        train(model(), bad, SHORT)
    with pytest.raises(TrainingError, match="batch 1: row 7 holds NaN or Inf"):
        train(model(), iter([X, bad]), SHORT)
    with pytest.raises(TrainingError, match=r"batch 1 has samples of shape \(3,\), those before \(2,\)"):
        train(model(), iter([X, torch.zeros(4, 3)]), SHORT)
    card = {"data": {"shape": [2]}}
    with pytest.raises(sd.Error, match="by its card the model takes"):
        train(sd.ScoreModel(MLP(2, 8, 1), sd.VP(), card=card), iter([torch.zeros(4, 3)]), SHORT)
    with pytest.raises(sd.Error, match="a batch is"):
        train(model(), iter([torch.zeros(4, 2, dtype=torch.uint8)]), SHORT)


def test_a_diverging_run_says_what_to_change():
    class Growing:
        def __init__(self):
            self.calls = 0

        def __call__(self, given, x0, cond, draws):
            self.calls += 1
            return 10.0 ** (self.calls / 4) * (1 + 0 * given.net(x0, torch.ones(len(x0))).square().sum(1))

    settings = TrainingSettings(updates=100, batch=8, rate=0.3, warmup=2)
    with pytest.raises(TrainingError, match=r"diverges: at update \d+ the loss is .* at the rate .*lower rate=0.3"):
        train(model(), X, settings, Growing())
