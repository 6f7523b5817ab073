"""`Objective`: random numbers by sample, importance without bias, dropped conditions, the composition."""

import math

import pytest
import torch
from torch import nn

import sdediff as sd
from sdediff.nets import MLP
from sdediff.training import Draws, LogitNormal, Mixture, Objective, output_weight

F64 = torch.float64


def data(n=64, d=2, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def linear(sde, predicts="eps", **fields):
    return sd.ScoreModel(lambda x, t, **cond: 0.4 * x + 0.1, sde, predicts=predicts, time="t", **fields)


def test_random_numbers_belong_to_samples_of_the_global_batch():
    whole, like = Draws(3, 7, 0, 8), torch.zeros(8, 5)
    parts = [Draws(3, 7, first, 8) for first in (0, 4)]
    assert torch.equal(whole.normals(like), torch.cat([part.normals(like[:4]) for part in parts]))
    assert torch.equal(whole.stratified(8), torch.cat([part.stratified(4) for part in parts]))
    assert torch.equal(whole.uniforms(8), torch.cat([part.uniforms(4) for part in parts]))
    cells = (whole.stratified(8) * 8).floor().sort().values
    assert cells.tolist() == list(range(8))
    for other in (Draws(4, 7, 0, 8), Draws(3, 8, 0, 8)):
        assert not torch.equal(other.normals(like), whole.normals(like))
        assert not torch.equal(other.stratified(8), whole.stratified(8))
    assert set(whole.signs(like).unique().tolist()) == {-1.0, 1.0}
    assert not torch.equal(whole.normals(like, 1), whole.normals(like, 2))


@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "velocity", "edm"])
def test_the_objective_is_the_loss_at_its_times_and_noise(predicts):
    model, x0, draws = linear(sd.VP(), predicts), data(), Draws(1, 5, 0, 64)
    objective = Objective("min_snr", LogitNormal(), lowest=0.01)
    found = objective(model, x0, {}, draws)
    t = objective.times(model, draws.stratified(64))
    expected = sd.loss(model, x0, t=t, eps=draws.normals(x0), weighting="min_snr")
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
    assert t.min() > 0.01


@pytest.mark.parametrize("spread", ["t", "lam", "log_normal", "logit_normal", "mode", "shifted", Mixture(0.5)])
@pytest.mark.parametrize("weighting", ["simple", "likelihood"])
def test_importance_sampling_leaves_the_expected_loss(spread, weighting):
    # D = 1 and eps_hat = 0.4 x + 0.1 on N(0, 1): E|eps_hat - eps|^2 in closed form, weighted and integrated over t.
    sde, n, low = sd.VP(), 60_000, 0.02
    x0 = data(n, 1)
    losses = Objective(weighting, spread, lowest=low, importance=True)(linear(sde), x0, {}, Draws(2, 0, 0, n))
    t = low + (1 - low) * (torch.arange(20_000, dtype=F64) + 0.5) / 20_000
    at = sd.level(sde, t)
    on_eps = output_weight(weighting, at, "eps")
    error = (0.4 * at.alpha) ** 2 + (0.4 * at.sigma - 1) ** 2 + 0.01
    expected = (on_eps * error).mean().item()
    assert losses.mean().item() == pytest.approx(expected, abs=4.9 * losses.std().item() / math.sqrt(n))
    if (weighting, spread) == ("likelihood", "lam"):
        # The likelihood weight over times uniform in lam: one constant for all, Z / (2 (T - low)).
        ratio = losses / sd.loss(
            linear(sde), x0, eps=Draws(2, 0, 0, n).normals(x0),
            t=Objective(spread="lam", lowest=low).times(linear(sde), Draws(2, 0, 0, n).stratified(n)),
        )  # fmt: skip
        z = sd.training.lam_weight(sde, low, 1.0)
        torch.testing.assert_close(ratio, torch.full_like(ratio, z / (2 * (1 - low))), rtol=1e-8, atol=0)


def test_all_conditions_of_a_sample_are_dropped_together():
    seen = {}

    def net(x, t, label, tokens):
        seen.update(label=label, tokens=tokens)
        return 0 * x

    model, n = sd.ScoreModel(net, sd.VP()), 4000
    cond = {"label": torch.arange(n) % 10, "tokens": torch.ones(n, 3, 2)}
    row = torch.tensor([[5.0, 6.0]]).expand(3, 2)
    Objective(drop=0.1, null={"label": 10, "tokens": row})(model, data(n), cond, Draws(0, 0, 0, n))
    gone = seen["label"] == 10
    assert abs(gone.double().mean().item() - 0.1) < 4.9 * math.sqrt(0.09 / n)
    assert torch.equal(seen["label"][~gone], cond["label"][~gone])
    assert torch.equal(seen["tokens"][gone], row.expand(int(gone.sum()), 3, 2))
    assert (seen["tokens"][~gone] == 1).all()
    assert torch.equal(cond["tokens"], torch.ones(n, 3, 2))  # the batch itself is left alone
    with pytest.raises(sd.Error, match="stands for no 'tokens'"):
        Objective(drop=0.1, null={"label": 10})(model, data(n), cond, Draws(0))
    with pytest.raises(sd.Error, match="no row a sample"):
        Objective(drop=0.1, null={"label": 10, "tokens": row})(model, data(n), {**cond, "label": 3}, Draws(0))


def test_the_networks_of_the_package_name_their_null_row():
    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.seen = MLP(2, 8, 1, classes=4), None

        def forward(self, x, t, label):
            self.seen = label
            return self.net(x, t, label)

    net = Watched()
    Objective(drop=0.5)(
        sd.ScoreModel(net, sd.VP()), data(200).float(), {"label": torch.zeros(200, dtype=torch.long)}, Draws(0)
    )
    assert set(net.seen.tolist()) == {0, 4}


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"weighting": "snr"}, "unknown weighting 'snr'"), ({"spread": "even"}, "spread of training times"),
        ({"lowest": 0.0}, "lowest=0.0"), ({"drop": 1.0}, "drop=1.0"), ({"null": {"a": 1}}, "null has no effect"),
    ],
)  # fmt: skip
def test_objectives_without_a_meaning_are_refused(fields, match):
    with pytest.raises(sd.Error, match=match):
        Objective(**fields)
