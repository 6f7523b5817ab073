"""A network whose output for a sample depends on the rest of its batch has no density that two passes could find."""

import pytest
import torch

import sdediff as sd

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
OWN = torch.Generator().manual_seed(1)


def first_time(x, t):
    return x * t[0]


def mean_over_the_batch(x, t):
    return x * t[:, None] + (x * t[:, None]).mean(0)


def own_noise(x, t):
    return x + 0.5 * torch.randn(x.shape, generator=OWN)


@pytest.mark.parametrize("net", [first_time, mean_over_the_batch, own_noise])
@pytest.mark.parametrize("trace", ["exact", "hadamard"])
def test_refused(net, trace):
    model = sd.ScoreModel(net, sd.VP(), predicts="eps")
    with pytest.raises(sd.Error, match="changes with the others in its batch"):
        sd.log_likelihood(model, X, trace=trace)


@pytest.mark.parametrize("net", [first_time, mean_over_the_batch, own_noise])
def test_refused_in_samples_with_log_p(net):
    model = sd.ScoreModel(net, sd.VP(), predicts="eps")
    with pytest.raises(sd.Error, match="changes with the others in its batch"):
        sd.sample_with_log_prob(model, (6, 3))


def test_refused_in_padded_batches():
    model = sd.ScoreModel(first_time, sd.VP(), predicts="eps")
    with pytest.raises(sd.Error, match="changes with the others in its batch"):
        sd.log_likelihood(model, X, frozen=True)


def test_one_time_for_all_is_what_the_ode_has():
    shared, apart = (
        sd.log_likelihood(sd.ScoreModel(net, sd.VP(), predicts="eps"), X, method="ode", trace="exact").log_prob
        for net in (first_time, lambda x, t: x * t[:, None])
    )
    torch.testing.assert_close(shared, apart, rtol=0, atol=1e-12)


def test_a_network_without_time_or_of_one_sample_passes():
    for net, x in ((lambda x, t: 0.5 * x, X), (first_time, X[:1])):
        model = sd.ScoreModel(net, sd.VP(), predicts="eps")
        assert set(sd.log_likelihood(model, x, trace="exact").status) == {"ok"}


def test_conditions_stay_with_their_samples():
    def net(x, t, scale):
        return x * t[:, None] * scale[:, None]

    model, scale = sd.ScoreModel(net, sd.VP(), predicts="eps", per_sample=("scale",)), torch.linspace(0.1, 0.6, 6)
    options = {"trace": "exact", "rtol": 1e-6, "atol": 1e-6, "progress": False}
    whole = sd.log_likelihood(model, X, cond={"scale": scale}, **options).log_prob
    alone = [sd.log_likelihood(model, X[i : i + 1], cond={"scale": scale[i : i + 1]}, **options) for i in range(6)]
    torch.testing.assert_close(whole, torch.cat([one.log_prob for one in alone]), rtol=0, atol=1e-6)
