"""Checkpoints of score_sde_pytorch: its score function beside ours, its averaged weights, refusals."""

import math

import pytest
import torch

import sdediff as sd
from sdediff.bridges import BridgeError
from tests.bridges.foreign import F64, Small, small, states

VP = {"sde": "vpsde", "continuous": True}


def checkpoint(path, parallel=True):
    """As its training writes it: weights under DataParallel, averages of the parameters that need gradients."""
    weights = {f"module.{name}" if parallel else name: v for name, v in small().state_dict().items()}
    shadow = [p.detach() for p in small(1).parameters() if p.requires_grad]
    torch.save({"model": weights, "ema": {"decay": 0.999, "num_updates": 5, "shadow_params": shadow}, "step": 9}, path)
    return path


def averaged():
    network = small(1)
    network.frozen.data.copy_(small().frozen)
    return network


def score(network, x, time, sde, continuous, n=1000):
    """score_sde's get_score_fn, written from its description: Song et al. 2021, and the clocks of its models."""
    t = torch.full((len(x),), time, dtype=F64)
    b = 0.1 * time + 19.9 * time**2 / 2
    if sde == "vesde" and continuous:
        return network(x, 0.01 * (50 / 0.01) ** t)
    if sde == "vesde":
        return network(x, torch.round((1 - t) * (n - 1)))
    if sde == "subvpsde":
        return -network(x, 999 * t) / (1 - math.exp(-b))
    if continuous:
        return -network(x, 999 * t) / math.sqrt(1 - math.exp(-b))
    labels = torch.round(t * (n - 1))
    bars = torch.cumprod(1 - torch.linspace(0.1 / n, 20 / n, n, dtype=F64), 0)
    return -network(x, labels) / torch.sqrt(1 - bars[labels.long()])[:, None, None, None]


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize(
    ("sde", "continuous"),
    [("vpsde", True), ("vpsde", False), ("subvpsde", True), ("vesde", True), ("vesde", False)],
)
def test_the_score_is_the_librarys(sde, continuous, parallel, tmp_path):
    path = checkpoint(tmp_path / "checkpoint_9.pth", parallel)
    model = sd.from_score_sde(
        path, Small, sde=sde, continuous=continuous, num_scales=1000, sigma_max=50.0, range=(0, 1)
    )
    assert model.card["data"] == {"range": [0.0, 1.0]}
    for time in (0.0, 333 / 999, 1.0) if not continuous else (0.01, 0.4, 1.0):
        ours = time if continuous else round(time * 999) + 1.0
        x = states() * sd.level(model.sde, ours).sigma
        expected = score(averaged(), x, time, sde, continuous)
        torch.testing.assert_close(model(x, ours).score, expected, rtol=1e-6, atol=1e-6)


def test_averages_go_to_the_trained_parameters_in_order(tmp_path):
    path = checkpoint(tmp_path / "a.pth")
    plain = sd.from_score_sde(path, small(5), ema=False, **VP)
    assert torch.equal(plain.net.out[2].weight, small().out[2].weight)
    model = sd.from_score_sde(path, small(5), **VP)
    assert torch.equal(model.net.out[2].weight, small(1).out[2].weight)
    assert torch.equal(model.net.frozen, small().frozen)
    assert not model.net.training
    assert not any(p.requires_grad for p in model.net.parameters())
    thawed = small()
    thawed.frozen.requires_grad_(True)
    with pytest.raises(BridgeError, match="6 averaged weights for 7 parameters that need gradients"):
        sd.from_score_sde(path, thawed, **VP)


def test_what_is_not_in_the_file_is_asked_for_by_name(tmp_path):
    path = checkpoint(tmp_path / "a.pth")
    for given, match in (
        ({}, r"do not hold sde, continuous: write .* sde=\.\.\., continuous="),
        ({"sde": "vesde", "continuous": True}, r"sigma_max=\.\.\."),
        ({"sde": "vpsde", "continuous": False}, r"num_scales=\.\.\."),
        ({"sde": "vp", "continuous": True}, "vpsde"),
        ({**VP, "range": (1, 0)}, "two rising numbers"),
    ):
        with pytest.raises(BridgeError, match=match):
            sd.from_score_sde(path, Small, **given)


def test_networks_and_files_that_do_not_fit(tmp_path):
    path = checkpoint(tmp_path / "a.pth")
    for network, config, match in (
        (Small(width=8), None, r"not the weights of this Small: .*, needed \(8"),
        (Small, {"width": 8}, "needed"),
        (Small, {"size": 8}, "raised TypeError"),
        (torch.nn.Linear(2, 2), None, "missing weight; missing bias; extra"),
        (3, None, "module:Class"),
        (dict, None, "gave dict"),
        (small(), {"width": 4}, "no effect"),
    ):
        with pytest.raises(BridgeError, match=match):
            sd.from_score_sde(path, network, config=config, **VP)
    torch.save({"model": {"a": 1}}, tmp_path / "b.pth")
    with pytest.raises(BridgeError, match="no dictionary of weights"):
        sd.from_score_sde(tmp_path / "b.pth", Small, **VP)
    torch.save({"model": small().state_dict()}, tmp_path / "c.pth")
    with pytest.raises(BridgeError, match="ema=False"):
        sd.from_score_sde(tmp_path / "c.pth", Small, **VP)
    broken = small().state_dict()
    broken["out.0.bias"][0] = math.nan
    torch.save({"model": broken}, tmp_path / "d.pth")
    with pytest.raises(BridgeError, match=r"NaN or infinity in out\.0\.bias"):
        sd.from_score_sde(tmp_path / "d.pth", Small, ema=False, **VP)


def test_the_network_by_name(tmp_path):
    path = checkpoint(tmp_path / "a.pth")
    model = sd.from_score_sde(path, "tests.bridges.foreign:Small", config={"width": 4}, **VP)
    assert type(model.net) is Small
    assert model.net.config == {"width": 4}
    with pytest.raises(sd.Error, match="has no 'Smaller'"):
        sd.from_score_sde(path, "tests.bridges.foreign:Smaller", **VP)
