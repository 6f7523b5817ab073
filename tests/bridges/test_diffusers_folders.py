"""Folders and pipelines of diffusers: read as they are, in Python and by the commands; refusals in a sentence."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

import sdediff as sd
from sdediff.bridges import BridgeError
from sdediff.cli import main
from tests.bridges.small import MARKS, diffusers, start, unet

pytestmark = MARKS


def pipeline(scheduler=None):
    return diffusers.DDPMPipeline(unet().float(), scheduler or diffusers.DDPMScheduler())


@pytest.fixture
def folder(tmp_path):
    """A pipeline's folder: model_index.json, unet/, scheduler/."""
    pipeline().save_pretrained(tmp_path / "made")
    return tmp_path / "made"


@pytest.fixture
def flat(tmp_path):
    """A network's folder with the scheduler's file beside its own."""
    unet().float().save_pretrained(tmp_path / "flat")
    diffusers.EDMEulerScheduler().save_pretrained(tmp_path / "flat")
    return tmp_path / "flat"


def test_a_pipelines_folder_loads_as_it_is(folder):
    model = sd.load(folder)
    x = start().float()
    with torch.no_grad():
        expected = unet().float()(x, 499).sample
    assert torch.equal(model(x, 500).raw, expected)
    assert (model.predicts, model.time, model.sde.n) == ("eps", "index", 1000)
    assert model.card["data"] == {"shape": [1, 8, 8], "range": [-1.0, 1.0]}
    assert "clips x0" in model.card["notes"][0]
    assert not model.net.training
    assert not any(weight.requires_grad for weight in model.net.parameters())


def test_folder_pipeline_and_pair_are_one_model(folder):
    whole = pipeline()
    x = start().float()
    for source in (folder, str(folder), whole, (whole.unet, whole.scheduler)):
        model = sd.from_diffusers(source)
        assert torch.equal(model(x, 77).raw, sd.load(folder)(x, 77).raw)
        assert model.sde == sd.load(folder).sde


def test_a_flat_folder_and_its_types(flat):
    model = sd.load(flat, dtype=torch.float64)
    assert (model.predicts, model.sigma_data, model.sde) == ("edm", 0.5, sd.EDM(T=80.0, t_min=0.002))
    assert sd.sample(model, (2, 1, 8, 8), steps=3).dtype == torch.float64
    half = sd.from_diffusers(flat, dtype=torch.bfloat16)
    assert next(half.net.parameters()).dtype == torch.bfloat16
    assert sd.sample(half, (2, 1, 8, 8), steps=3).dtype == torch.float32


def test_the_commands_take_the_folder(folder, tmp_path, capsys):
    assert main(["sample", str(folder), "-n", "2", "--calls", "3", "--out", str(tmp_path / "out")]) == 0
    with np.load(tmp_path / "out" / "samples.npz") as stored:
        assert stored["x"].shape == (2, 1, 8, 8)
    assert (tmp_path / "out" / "samples.png").is_file()


def test_a_latent_models_card_has_the_scaling(tmp_path):
    unet(in_channels=4, out_channels=4).float().save_pretrained(tmp_path / "unet")
    diffusers.DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"scaling_factor": 0.18215, "shift_factor": None}))
    card = sd.load(tmp_path).card
    assert card["latent"] == {"scaling_factor": 0.18215}
    assert card["data"] == {"shape": [4, 8, 8]}


def edited(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def without_scheduler(folder):
    (folder / "scheduler" / "scheduler_config.json").unlink()


def unknown_network(folder):
    edited(folder / "unet" / "config.json", _class_name="UNet7DModel")


def foreign_code(folder):
    edited(folder / "unet" / "config.json", _class_name=["my_code", "Net"])


def unknown_scheduler(folder):
    edited(folder / "scheduler" / "scheduler_config.json", _class_name="MyScheduler")


def pickled(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")


def cut(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def other_size(folder):
    edited(folder / "unet" / "config.json", block_out_channels=[8, 32])


def impossible(folder):
    edited(folder / "unet" / "config.json", down_block_types=["NoBlock", "NoBlock"])


def nested(folder):
    (folder / "unet" / "config.json").write_text("[" * 100_000)


def listed(folder):
    (folder / "scheduler" / "scheduler_config.json").write_text("[1, 2]")


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (without_scheduler, "no scheduler_config.json"),
        (unknown_network, "UNet7DModel is not known here; did you mean"),
        (foreign_code, "no _class_name"),
        (unknown_scheduler, "unknown scheduler 'My'"),
        (pickled, "the network cannot be read"),
        (cut, "the network cannot be read"),
        (other_size, r"unet.diffusion_pytorch_model.safetensors: .* is \(16,\), needed by config.json is \(32,\)"),
        (impossible, "cannot be read|cannot be made"),
        (nested, "cannot be read as JSON"),
        (listed, "named fields"),
    ],
)
def test_damaged_folders_are_refused_in_one_sentence(folder, damage, match, capsys, tmp_path):
    damage(folder)
    with pytest.raises(BridgeError, match=match) as caught:
        sd.load(folder)
    assert "\n" not in str(caught.value)
    assert main(["sample", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_no_source_is_refused(tmp_path):
    network = unet()
    for source, match in (
        (tmp_path / "none", "no such folder"),
        (3, "give a folder"),
        ((network,), "a pair"),
        ((network, 3), "no scheduler"),
        ((torch.nn.Linear(2, 2), diffusers.DDIMScheduler()), "no network of diffusers"),
    ):
        with pytest.raises(BridgeError, match=match):
            sd.from_diffusers(source)
