"""Conditions that a network does not take, or lacks, are refused by name wherever it is evaluated."""

import pytest
import torch

import sdediff as sd

SHAPE = (2, 3)
X = torch.zeros(SHAPE)


def net(x, t, label, scale=1.0):
    return x * label[:, None] * scale


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, t, *, label):
        return self.weight * x * label[:, None]


MODELS = {"function": net, "module": Net().eval(), "float64": Net().double().eval()}
USES = {
    "sample": lambda model, cond: sd.sample(model, SHAPE, calls=3, cond=cond),
    "iterate": lambda model, cond: list(sd.iterate(model, SHAPE, steps=3, cond=cond)),
    "Sampler": lambda model, cond: sd.Sampler(model, calls=3)(SHAPE, cond=cond),
    "encode": lambda model, cond: sd.encode(model, X, steps=3, cond=cond),
    "decode": lambda model, cond: sd.decode(model, X, steps=3, cond=cond),
    "log_likelihood": lambda model, cond: sd.log_likelihood(model, X, cond=cond, progress=False),
    "ode": lambda model, cond: sd.log_likelihood(model, X, method="ode", cond=cond, progress=False),
    "given": lambda model, cond: model.given(**cond)(X, 0.5),
    "recommend": lambda model, cond: sd.recommend(model, SHAPE, calls=5, cond=cond),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", MODELS)
def test_names_of_conditions(use, kind):
    model = sd.ScoreModel(MODELS[kind], sd.VP(), predicts="eps")
    with pytest.raises(sd.Error, match="the network has no condition 'lable': its conditions are label"):
        USES[use](model, {"lable": torch.ones(2)})
    with pytest.raises(sd.Error, match="the network needs the condition 'label': write cond="):
        USES[use](model, {})


def test_a_network_without_conditions_says_so():
    model = sd.ScoreModel(lambda x, t: x, sd.VP(), predicts="eps")
    with pytest.raises(sd.Error, match="the network has no condition 'label': it takes none"):
        sd.sample(model, SHAPE, steps=2, cond={"label": torch.ones(2)})


def test_a_type_error_of_the_network_stays_its_own():
    def broken(x, t, **cond):
        raise TypeError("its own")

    with pytest.raises(TypeError, match="its own"):
        sd.sample(sd.ScoreModel(broken, sd.VP(), predicts="eps"), SHAPE, steps=2)


def test_labels_of_the_wrong_kind():
    with pytest.raises(sd.Error, match=r"label=\['a', 'b'\]: give integers in \[0, 10\)"):
        sd.sample(sd.load("digits-cond"), (2, 1, 8, 8), calls=3, cond={"label": ["a", "b"]})
