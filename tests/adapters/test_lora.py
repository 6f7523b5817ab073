"""Adapters of attention layers: identity at the start, trained alone, merged, unmerged and removed to the bit."""

import json

import pytest
import torch

pytest.importorskip("peft")

import sdediff as sd
from sdediff import adapters
from sdediff.nets import UNet

pytestmark = pytest.mark.extras
X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def base(**fields):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet(width=8, blocks=1, attention=2, **fields)
        for weight in net.parameters():
            weight.data.add_(0.1 * torch.randn(weight.shape))
    return sd.ScoreModel(net.eval().requires_grad_(False), sd.VP())


def shaken(model, seed=1):
    """The adapted model with a B that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.net.parameters():
        if weight.requires_grad:
            weight.data.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def output(model):
    with torch.no_grad():
        return model(X, 0.5).raw


def weights(model):
    return {name: value.clone() for name, value in model.net.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_an_adapter_is_the_identity_at_the_start():
    model = base(tokens=5)
    before, plain = weights(model), output(model)
    model.net.requires_grad_(True)
    adapted = adapters.add_lora(model, rank=2)
    assert torch.equal(output(adapted), plain)
    assert same(weights(model), before)
    assert all(weight.requires_grad for weight in model.net.parameters())
    names = {name.removeprefix("network.") for name, _ in adapted.net.adapted()}
    parts = ("to_q", "to_k", "to_v", "to_out.0")
    assert names == {f"{layer}.{part}" for layer in ("attention", "cross") for part in parts}
    trained = [name for name, weight in adapted.net.named_parameters() if weight.requires_grad]
    assert all("lora_" in name for name in trained)
    assert len(trained) == 16


def test_the_adapted_layer_is_the_papers():
    adapted = shaken(adapters.add_lora(base(), rank=2, alpha=6.0))
    x = torch.randn(3, 16)
    layer = dict(adapted.net.adapted())["attention.to_out.0"]
    a, b = (part["default"].weight for part in (layer.lora_A, layer.lora_B))
    expected = x @ layer.base_layer.weight.T + layer.base_layer.bias + 6 / 2 * (x @ a.T) @ b.T
    torch.testing.assert_close(layer(x), expected)


def test_pefts_own_names_match_our_network_and_diffusers():
    import peft

    config = peft.LoraConfig(r=2, target_modules=list(adapters.TARGETS))
    ours = peft.inject_adapter_in_model(config, UNet(width=8, blocks=1, attention=2))
    assert sum("lora_A" in name for name, _ in ours.named_parameters()) == 4


def test_training_changes_the_adapter_alone():
    model = base()
    before = weights(model)
    adapted = adapters.add_lora(model, rank=2)
    sd.train(adapted, X.repeat(4, 1, 1, 1), sd.training.TrainingSettings(updates=3, batch=4, rate=1e-2, warmup=0))
    assert not torch.equal(output(adapted), output(model))
    assert same(weights(model), before)
    assert same(weights(adapters.remove_lora(adapted)), before)


def test_merge_and_unmerge():
    model = base()
    adapted = shaken(adapters.add_lora(model, rank=2))
    before, plain = output(adapted), output(model)
    merged = adapters.merge_lora(adapted)
    assert type(merged.net) is UNet
    torch.testing.assert_close(output(merged), before, rtol=1e-4, atol=1e-5)
    assert same({n: v for n, v in weights(merged).items() if "to_" not in n},
                {n: v for n, v in weights(model).items() if "to_" not in n})  # fmt: skip
    back = adapters.unmerge_lora(merged)
    assert torch.equal(output(back), before)
    assert same(weights(adapters.remove_lora(back)), weights(model))
    assert torch.equal(output(adapters.merge_lora(adapted, 0.0)), plain)
    half = output(adapters.merge_lora(adapted, 0.5))
    adapted.net.scale_by(0.5)
    torch.testing.assert_close(half, output(adapted), rtol=1e-4, atol=1e-5)
    with pytest.raises(sd.Error, match="was not merged by merge_lora"):
        adapters.unmerge_lora(model)


def test_merging_twice_in_half_precision_is_undone_to_the_bit():
    model = base()
    model.net.to(torch.bfloat16)
    adapted = shaken(adapters.add_lora(model, rank=2))
    once = adapters.unmerge_lora(adapters.merge_lora(adapted))
    twice = adapters.unmerge_lora(adapters.merge_lora(once, 0.7))
    assert same(weights(adapters.remove_lora(twice)), weights(model))


def test_a_file_holds_the_adapter(tmp_path):
    model = base(tokens=5)
    adapted = shaken(adapters.add_lora(model, rank=2, alpha=3.0))
    path = adapters.save_lora(adapted, tmp_path / "new" / "adapter.safetensors")
    again = adapters.load_lora(model, path)
    adapted.net.requires_grad_(False)  # which decides how torch multiplies
    assert torch.equal(output(again), output(adapted))
    assert not any(weight.requires_grad for weight in again.net.parameters())
    half = adapters.load_lora(model, path, scale=0.5)
    adapted.net.scale_by(0.5)
    torch.testing.assert_close(output(half), output(adapted), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output(adapters.merge_lora(half, 0.5)), output(half), rtol=1e-4, atol=1e-5)


def test_a_folder_holds_an_adapted_model(tmp_path):
    adapted = shaken(adapters.add_lora(base(), rank=2))
    sd.save(adapted, tmp_path / "model")
    again = sd.load(tmp_path / "model")
    adapted.net.requires_grad_(False)  # which decides how torch multiplies
    again.net.requires_grad_(False)
    assert torch.equal(output(again), output(adapted))
    assert same(weights(adapters.remove_lora(again)), weights(adapters.remove_lora(adapted)))


def test_a_run_with_checkpoints_goes_on(tmp_path):
    data, settings = X.repeat(4, 1, 1, 1), {"batch": 4, "rate": 1e-2, "save_every": 2}
    whole = adapters.add_lora(base(), rank=2)
    sd.train(whole, data, sd.training.TrainingSettings(updates=4, **settings))
    for updates in (2, 4):
        part = adapters.add_lora(base(), rank=2)
        constant = sd.training.TrainingSettings(updates=updates, **settings)
        sd.train(part, data, constant, out=tmp_path / "run")
    assert sd.load(tmp_path / "run" / "model").net.rank == 2


def test_what_cannot_be_adapted_is_refused(tmp_path):
    model = base()
    with pytest.raises(sd.Error, match="has no linear layer of such a name"):
        adapters.add_lora(model, targets=("queries",))
    adapted = adapters.add_lora(model)
    with pytest.raises(sd.Error, match="has an adapter already"):
        adapters.add_lora(adapted)
    with pytest.raises(sd.Error, match="merge_lora needs a model with an adapter"):
        adapters.merge_lora(model)
    with pytest.raises(sd.Error, match=r"is no nn\.Module"):
        adapters.add_lora(sd.ScoreModel(lambda x, t: x, sd.VP()))
    with pytest.raises(sd.Error, match="no such file"):
        adapters.load_lora(model, tmp_path / "none.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"0" * 100)
    with pytest.raises(sd.Error, match="cannot be read as safetensors"):
        adapters.load_lora(model, damaged)


def test_files_that_do_not_fit_are_refused(tmp_path):
    from safetensors.torch import save_file

    def written(tensors, **facts):
        save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(facts)} if facts else None)
        return tmp_path / "a.safetensors"

    a, b = torch.zeros(2, 16), torch.zeros(16, 2)
    name = "attention.to_q"
    assert adapters.load_lora(base(), written({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b})).net.rank == 2
    for tensors, match in (
        ({f"{name}.lora_A.weight": a}, "lacks one of its two"),
        ({f"{name}.weight": a}, "is no finite matrix lora_A or lora_B"),
        ({f"{name}.lora_A.weight": a / 0, f"{name}.lora_B.weight": b}, "is no finite matrix"),
        ({"other.lora_A.weight": a, "other.lora_B.weight": b}, "has no linear layer"),
        ({f"{name}.lora_A.weight": torch.zeros(2, 8), f"{name}.lora_B.weight": b}, r"is \(2, 8\), needed \(2, 16\)"),
    ):
        with pytest.raises(sd.Error, match=match):
            adapters.load_lora(base(), written(tensors))
    with pytest.raises(sd.Error, match="lora_alpha='big': write a number"):
        adapters.load_lora(base(), written({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}, lora_alpha="big"))
    matrices = {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    for facts in ({"use_rslora": True}, {"use_dora": True}, {"alpha_pattern": {name: 4}}):
        with pytest.raises(sd.Error, match=rf"metadata says {next(iter(facts))}=.*, which is not read: known is alpha"):
            adapters.load_lora(base(), written(matrices, **facts))
    file = written(matrices)
    file.with_name("adapter_config.json").write_text('{"r": 2, "lora_alpha": 6, "use_rslora": false}')
    assert adapters.load_lora(base(), file).net.alpha == 6
    file.with_name("adapter_config.json").write_text("{")
    with pytest.raises(sd.Error, match=r"adapter_config.json is not JSON"):
        adapters.load_lora(base(), file)
