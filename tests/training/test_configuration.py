"""Configurations: every one in the package is read, trained for a few updates, sampled; errors name the field."""

import math

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.training import ClassifierLoss, Draws, classify, configs, read_config, train
from sdediff.training.configuration import CONFIGS

DIGITS = sd.data("digits", "train")
TABLE = sd.datasets.DataSet(np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32), name="table")
SMALL = {"training.updates": 2, "training.batch": 8, "network.width": 8}
# Process, what is predicted and objective of each.
SYSTEMS = {
    "classifier": ("EDM", "x0", "ClassifierLoss"), "ddpm": ("Table", "eps", "Objective"),
    "edm": ("EDM", "edm", "Objective"), "edm_class": ("EDM", "edm", "Objective"),
    "fashion": ("RectifiedFlow", "velocity", "Objective"), "flow": ("RectifiedFlow", "velocity", "Objective"),
    "flow_magic": ("RectifiedFlow", "velocity", "Objective"), "flow_ot": ("RectifiedFlow", "velocity", "Objective"),
    "iddpm": ("Table", "eps", "VariationalBound"), "iddpm_vlb": ("Table", "eps", "VariationalBound"),
    "iddpm_levels": ("Table", "eps", "VariationalBound"),
    "implicit": ("VE", "score", "ImplicitScoreMatching"), "ncsn": ("Table", "score", "Objective"),
    "ncsnv2": ("Table", "score", "Objective"), "subvp": ("SubVP", "eps", "Objective"),
    "vdm": ("LearnedVP", "eps", "VariationalDiffusion"), "ve": ("VE", "score", "Objective"),
    "vp": ("VP", "eps", "Objective"), "vp_likelihood": ("VP", "eps", "Objective"),
    "vp_magic": ("VP", "eps", "Objective"),
}  # fmt: skip


def data_for(name):
    if name in ("flow_magic", "vp_magic", "implicit"):
        return TABLE
    if name == "fashion":
        images = np.random.default_rng(0).integers(0, 256, size=(32, 1, 28, 28)).astype(np.uint8)
        return sd.datasets.DataSet(images, 256, name="images")
    return DIGITS


def test_every_system_has_its_configuration():
    assert configs() == sorted(SYSTEMS)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_configuration_is_trained_for_a_few_updates(name, tmp_path):
    config, data = read_config(name, SMALL), data_for(name)
    assert config.name == name
    assert config.about
    model, objective = config.model(data), config.objective(data)
    assert (type(model.sde).__name__, model.predicts, type(objective).__name__) == SYSTEMS[name]
    log = train(model, config.rows(data), config.training, objective, out=tmp_path, config=config.plain())
    assert all(math.isfinite(loss) for loss in log.losses)
    again = sd.load(tmp_path / "model")
    if name == "classifier":
        assert again.net(torch.zeros(2, 1, 8, 8), torch.ones(2)).shape == (2, 10)
        return
    x = sd.sample(again, (2, *data.shape), calls=4, solver="ddim")
    assert x.shape == (2, *data.shape)
    assert again.card["data"]["shape"] == list(data.shape)
    assert again.card["training"]["config"]["name"] == name


@pytest.mark.parametrize("name", ["ncsnv2", "iddpm", "vdm", "ve", "edm_class", "classifier"])
def test_configurations_of_the_digits_take_images_of_other_sizes(name):
    images = np.random.default_rng(0).integers(0, 256, size=(32, 1, 28, 28)).astype(np.uint8)
    data = sd.datasets.DataSet(images, 256, labels=np.arange(32) % 10, name="images")
    small = {"training.updates": 1, "training.batch": 2, "network.width": 8}
    config = read_config(name, {**small, **({"network.levels": 256} if name == "vdm" else {})})
    model = config.model(data)
    log = train(model, config.rows(data), config.training, config.objective(data))
    assert math.isfinite(log.losses[0])
    assert model.card["data"]["shape"] == [1, 28, 28]
    if name == "ncsnv2":  # 24 on the digits: the ratio of its levels falls with the number of pixels
        assert model.sde.n > 60


def test_measured_fields_are_those_of_the_data():
    edm = read_config("edm", SMALL).model(DIGITS)
    assert edm.sigma_data == pytest.approx(0.711, abs=5e-3)
    table = read_config("ncsnv2", SMALL).model(DIGITS).sde
    assert table.sigma(torch.tensor([float(table.n)]).double()).item() == pytest.approx(9.27, rel=0.1)
    assert table.n == sd.training.ladder_size(9.27, 0.01, 64)
    vdm = read_config("vdm", SMALL).model(DIGITS).sde
    assert vdm.gamma(torch.zeros(1).double()).item() == pytest.approx(-7.8761, abs=1e-4)
    assert read_config("iddpm", SMALL).objective(DIGITS).discrete.levels == 17


def test_levels_stand_in_the_middle_of_their_bins_where_a_file_says_so():
    x = read_config("iddpm", {"data.dequantise": False, "data.labels": False}).rows(sd.datasets.DataSet(DIGITS.x, 17))
    assert torch.equal(x, DIGITS.tensor((-1.0, 1.0)))
    x, label = read_config("edm_class", {"data.dequantise": False}).rows(DIGITS)
    assert torch.equal(label, torch.from_numpy(DIGITS.labels))
    assert read_config("ddpm").rows(DIGITS) is DIGITS


def test_a_seed_makes_the_same_first_weights():
    one, two, other = (
        read_config("vp", {**SMALL, "training.seed": seed}).model(DIGITS).net.state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


FAULTS = {
    "training.rat = 1": r"training\.rat: unknown field 'rat': did you mean 'rate'",
    'training.rate = "fast"': r"training\.rate = 'fast': give float",
    "training.rate = -1": r"training: rate=-1: give a positive learning rate",
    'training.schedule = "cos"': r"training: unknown schedule 'cos'",
    "data.labels = 1": r"data\.labels = 1: give bool",
    "data.range = 3": r"data\.range = 3: give tuple",
    'objective.weighting = "snr"': "objective: unknown weighting 'snr'",
    'objective.kind = "dsm"': "objective: unknown kind 'dsm'",
    "objective.wieght = 1": r"objective: wieght: unknown field",
    'objective.spread = {name = "lognormal"}': r"objective: spread\.name: unknown spread .*'log_normal'",
    'process.class = "VPP"': "process: unknown process 'VPP'",
    'process.schedule = "lin"': r"process\.schedule: unknown schedule 'lin'",
    "process.beta_mx = 1": r"process: VP has no field 'beta_mx'",
    'network.class = "Unet2"': r"network\.class: unknown network",
    "network.widht = 1": r"network\.widht: unknown field 'widht': did you mean 'width'",
    'network.clock = "sines"': "network: clock='sines'",
    'model.predicts = "noise"': "model: unknown parametrisation 'noise'",
    "model.sigma = 1": r"model\.sigma: unknown field",
    "optimiser.rate = 1": "unknown key 'optimiser'",
    "training = 3": "training = 3: write a table",
}


@pytest.mark.parametrize("line", FAULTS)
def test_errors_name_the_file_and_the_field(line, tmp_path):
    text = (CONFIGS / "vp.toml").read_text()
    section, _, rest = line.partition(".")
    field = rest.partition(" ")[0]
    if "." not in line.partition("=")[0]:
        text = line + "\n" + text.partition("[training]")[0]
    elif f"[{section}]" in text:
        head, _, tail = text.partition(f"[{section}]\n")
        own, gap, others = tail.partition("\n\n")
        kept = [row for row in own.splitlines() if row.partition(" ")[0] != field]
        text = f"{head}[{section}]\n{rest}\n" + "\n".join(kept) + gap + others
    else:
        text += f"\n[{section}]\n{rest}\n"
    path = tmp_path / "mine.toml"
    path.write_text(text)

    def used():
        config = read_config(path)
        return config.model(DIGITS), config.objective(DIGITS)

    with pytest.raises(sd.Error, match=FAULTS[line]):
        used()


def test_files_that_are_none_are_named(tmp_path):
    (tmp_path / "bad.toml").write_text("rate = = 3")
    for given, match in ((tmp_path / "bad.toml", "is no TOML"), ("dpdm", "did you mean"), (tmp_path, "cannot be read")):
        with pytest.raises(sd.training.TrainingError, match=match):
            read_config(given)
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(sd.training.TrainingError, match=r"\[process\] is missing"):
        read_config(tmp_path / "empty.toml")
    with pytest.raises(sd.training.TrainingError, match="unknown section"):
        read_config("vp", {"rate": 1})


def test_a_classifier_learns_what_noise_leaves():
    data = sd.datasets.DataSet(DIGITS.x[:600], 17, labels=DIGITS.labels[:600])
    quick = {
        "training.updates": 60,
        "training.batch": 64,
        "training.average": 0.9,
        "training.warmup": 5,
        "training.rate": 5e-3,
    }
    config = read_config("classifier", {**SMALL, **quick, "network.width": 16})
    model, objective = config.model(data), config.objective(data)
    assert isinstance(objective, ClassifierLoss)
    log = train(model, data, config.training, objective)
    assert log.losses[0] == pytest.approx(math.log(10), abs=0.1)
    x, label = data.tensor(index=range(300)), torch.tensor(data.labels[:300])
    accuracy = []
    for t in (0.1, 60.0):
        noisy = x + t * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
        accuracy.append((classify(model, noisy, t).argmax(1) == label).double().mean().item())
    assert accuracy[0] > 0.6  # a tenth by chance, with a standard error of .017
    assert accuracy[1] < 0.2
    with pytest.raises(sd.Error, match="trained on labelled data"):
        objective(model, x, {}, Draws(0))
