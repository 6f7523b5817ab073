"""Folders of other people's classes: whose code runs, and equality to the bit."""

import json
from dataclasses import replace

import pytest
import torch

import sdediff as sd
from sdediff import hub
from sdediff.hub import HubError, TrustError
from sdediff.sde.processes import VP
from tests.hub import foreign
from tests.hub.folders import T, X

TRUST = ["tests"]


def random_net(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def same_to_the_bit(model, again, x=X, t=T):
    assert torch.equal(again(x, t).x0, model(x, t).x0)
    sample = sd.sample(again, (2, 5), steps=3), sd.sample(model, (2, 5), steps=3)
    assert torch.equal(*sample)


@pytest.mark.parametrize(
    ("make", "config", "fields"),
    [
        (lambda: foreign.Net(5, (6, 7), torch.nn.GELU, scale=0.5),
         {"dim": 5, "widths": (6, 7), "kind": torch.nn.GELU, "scale": 0.5}, {}),
        (lambda: foreign.Net(5, dtype=torch.float64), {"dim": 5, "dtype": torch.float64}, {"predicts": "-velocity"}),
        (foreign.Tied, None, {"time": sd.Clock("t", 999)}),
        (foreign.Configured, None, {"output": "sample", "predicts": "sigma*score", "shared": ("label",)}),
        (foreign.NoMeta, None, {"time": foreign.root}),
        (lambda: torch.compile(foreign.NoMeta(), backend="eager"), None, {}),
        (lambda: torch.nn.DataParallel(foreign.NoMeta()), None, {"per_sample": ("label",)}),
    ],
)  # fmt: skip
def test_round_trip_to_the_bit(tmp_path, make, config, fields):
    model = sd.ScoreModel(random_net(make), foreign.Ramp(3.0), **fields)
    folder = sd.save(model, tmp_path / "m", config=config, data={"range": [-1, 1], "levels": 17, "shape": [5]})
    again = sd.load(folder, trust=[*TRUST, "torch"])
    for name in ("sde", "predicts", "time", "output", "per_sample", "shared"):
        assert getattr(again, name) == getattr(model, name)
    assert again.card["data"] == {"range": [-1, 1], "levels": 17, "shape": [5]}
    same_to_the_bit(model, again)
    # Saved again it gives the same files.
    if config is None:
        second = sd.save(again, tmp_path / "n")
        for file in ("model.safetensors", "config.json"):
            assert (second / file).read_bytes() == (folder / file).read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_round_trip_of_other_types(tmp_path, dtype):
    model = sd.ScoreModel(random_net(foreign.Tied).to(dtype), VP(), time=sd.Clock("t", 999))
    again = sd.load(sd.save(model, tmp_path / "m"), trust=TRUST)
    assert {p.dtype for p in again.net.parameters()} == {dtype}
    assert again.net.table.dtype == model.net.table.dtype
    same_to_the_bit(model, again)


def test_round_trip_of_mixed_types_and_statistics(tmp_path):
    net = random_net(foreign.Tied)
    net.second.bias.data = net.second.bias.data.double()
    net.second.weight = torch.nn.Parameter(net.first.weight.detach().double())
    net.forward = None
    stats = sd.statistics(torch.linspace(-1, 1, 50).reshape(10, 5) ** 3)
    model = sd.ScoreModel(net, VP(), stats=stats)
    again = sd.load(sd.save(model, tmp_path / "m"), trust=TRUST)
    for (name, one), (_, two) in zip(net.state_dict().items(), again.net.state_dict().items(), strict=True):
        assert one.dtype == two.dtype, name
        assert torch.equal(one, two), name
    assert torch.equal(again.stats.covariance(), stats.covariance())


def test_foreign_code_needs_trust(tmp_path, monkeypatch):
    (tmp_path / "bold.py").write_text(
        "import torch, pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
        "class Net(torch.nn.Module):\n    def forward(self, x, t):\n        return x\n"
        "class Kernel:\n    pass\n"
    )
    folder = tmp_path / "m"
    monkeypatch.syspath_prepend(tmp_path)
    import bold

    sd.save(sd.ScoreModel(bold.Net(), VP()), folder)
    (tmp_path / "ran").unlink()
    monkeypatch.delitem(__import__("sys").modules, "bold")
    with pytest.raises(TrustError, match=r"runs code of the package 'bold' \(.*bold\.py\).*--trust bold") as caught:
        sd.load(folder)
    assert str(folder) in str(caught.value)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(TrustError):
        sd.load(folder, trust=["bol", "bold.sub"])
    assert sd.load(folder, trust="bold").net.__class__.__name__ == "Net"
    with pytest.raises(sd.Error, match="names of packages"):
        sd.load(folder, trust=[3])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"net": {"class": "os:system", "config": {}}}, "runs code of the package 'os'"),
        # What a trusted module has imported is not its own.
        ({"net": {"class": "tests.hub.foreign:nn.Identity", "config": {}}}, "runs code of the package 'torch'"),
        ({"net": {"class": "sdediff._utils.machine:os.system", "config": {}}}, "the network .* is a builtin"),
        ({"net": {"class": "sdediff._utils.machine:versions", "config": {}}}, "is a function, needed is a subclass of"),
        ({"net": {"class": "tests.hub.foreign:root", "config": {}}}, "is a function, needed is a subclass of Module"),
        ({"net": {"class": "tests.hub.foreign:Gone", "config": {}}}, "has no 'Gone'"),
        ({"net": {"class": "tests.hub.foreign:Net", "config": {"dim": -2}}}, "the network .* cannot be made"),
        ({"net": {"class": "tests.hub.foreign:Net", "config": {"dim": "x"}}}, "the network .* cannot be made"),
        ({"net": {"class": "tests.hub.foreign:Net", "config": {"dim": 10**30}}}, "the network .* cannot be made"),
        ({"net": {"class": "tests.hub.foreign:Net", "config": {"dim": 10**6}}}, "not this network's weights"),
        ({"net": {"class": "tests.hub.foreign:Net", "config": {"dim": 5, "widths": {"tuple": [2] * 9999}}}},
         "more parameters than the 6 tensors"),
        ({"net": {"class": "tests.hub.foreign:Net", "config": {"dim": 5, "kind": {"object": "os:system"}}}},
         "its argument is os:system, so loading it runs code"),
        ({"net": {"class": "tests.hub.foreign:Net", "config": {"dim": 5, "kind": {"dtype": "f"}}}}, "is no value"),
        ({"net": {"class": "a b:c"}}, "is no package.module:attribute"),
        ({"sde": {"class": "os:system"}}, "its process is os:system"),
        ({"sde": {"class": "tests.hub.foreign:Net"}}, "needed is a subclass of SDE"),
        ({"sde": {"class": "tests.hub.foreign:Ramp", "slope": 1}}, "the process .* cannot be made"),
        ({"sde": {"class": "tests.hub.foreign:Ramp", "rate": -1.0}}, "sigma"),
        ({"time": {"function": "os:getcwd"}}, "its clock is os:getcwd"),
        ({"time": {"function": "tests.hub.foreign:gives_none"}}, "clock"),
        ({"time": {"base": "t", "scale": "1"}}, "the clock cannot be made"),
        ({"time": {"base": "t", "scale": 10**400}}, "the clock cannot be made"),
        ({"time": {"name": "t"}}, "the clock cannot be made"),
        ({"output": [1]}, r"output=\[1\] is not"),
        ({"shared": "label"}, "write a list of names"),
        ({"predicts": 3}, "predicts=3 is not"),
    ],
)  # fmt: skip
def test_faults_of_a_foreign_folder(tmp_path, changes, match):
    folder = sd.save(sd.ScoreModel(random_net(lambda: foreign.Net(5)), VP()), tmp_path / "m", config={"dim": 5})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "sha256": None, **changes}))
    with pytest.raises(HubError, match=match) as caught:
        sd.load(folder, trust=TRUST)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_saved_says_what_to_write(tmp_path):
    net = random_net(lambda: foreign.Net(5))
    good = sd.ScoreModel(net, VP())
    traced = torch.fx.symbolic_trace(torch.nn.Linear(2, 2))
    cases = [
        (good, None, r"config=\{'dim': \.\.\., 'widths'.*or give the class an attribute config"),
        (good, {"dim": 5, "depth": 2}, "does not take these arguments"),
        (good, {"dim": 4}, "make another network: layers.0.weight would be"),
        (good, {"dim": 5, "widths": (8, 8, 8)}, "make another network"),
        (good, {"dim": 5, "kind": lambda: None}, r"config\['kind'\] cannot be saved: a lambda"),
        (good, {"dim": 5, "scale": torch.ones(3)}, r"config\['scale'\] is a Tensor"),
        (replace(good, net=traced), None, "has no constructor: .* write a factory"),
        (replace(good, net=torch.nn.Sequential(net)), None, "constructor arguments of Sequential are not known"),
    ]
    for at, (model, config, match) in enumerate(cases):
        with pytest.raises(HubError, match=match):
            sd.save(model, tmp_path / str(at), config=config)
        assert not (tmp_path / str(at)).exists()


def test_a_networks_arguments_hold_infinity_and_nested_values():
    from sdediff.hub.values import decode, encode

    value = {"a": [1, (2.0, float("inf")), None, True, "x"], "b": {"tuple": [1]}, "c": {"d": (torch.float16,)}}
    coded = json.loads(json.dumps(encode(value, "v"), allow_nan=False))
    assert decode(coded, "v", str) == value


def test_plugin_classes_are_saved_by_their_name_and_need_no_trust(tmp_path, monkeypatch):
    from sdediff._utils import references

    class Entry:
        def __init__(self, name, value, thing):
            self.name, self.value, self.load = name, value, lambda: thing

    entries = {
        "sdediff.networks": [Entry("no_meta", "tests.hub.foreign:NoMeta", foreign.NoMeta)],
        "sdediff.processes": [Entry("ramp", "tests.hub.foreign:Ramp", foreign.Ramp)],
        "sdediff.models": [Entry("five", "tests.hub.foreign:model", foreign.model)],
    }
    monkeypatch.setattr(references, "entry_points", lambda group: entries.get(group, []))
    model = sd.ScoreModel(random_net(foreign.NoMeta), foreign.Ramp(3.0))
    folder = sd.save(model, tmp_path / "m")
    written = json.loads((folder / "config.json").read_text())
    assert (written["net"]["class"], written["sde"]["class"]) == ("no_meta", "ramp")
    same_to_the_bit(model, sd.load(folder))
    assert hub.provenance(sd.load("five")).reference == "five"
    with pytest.raises(HubError, match="did you mean 'five'"):
        sd.load("fiveh")
