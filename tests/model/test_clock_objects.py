"""Affine and whole clocks, tables whose labels fall, and a network that looks its clock up."""

import math

import pytest
import torch

import sdediff as sd

F64 = torch.float64
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=F64)


def reads(sde, **fields):
    """What a model's network is given as its clock at times, and its type."""
    read = []
    model = sd.ScoreModel(lambda x, t: read.append(t) or x, sde, **fields)

    def at(t):
        model(torch.ones(len(t), 2, dtype=F64), torch.as_tensor(t, dtype=F64))
        return read.pop()

    return at


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        (sd.Clock("t", 1000), lambda t, level: 1000 * t),
        (sd.Clock("t", -1, 1), lambda t, level: 1 - t),
        (sd.Clock("sigma"), lambda t, level: level.sigma / level.alpha),
        # EDM's VE networks read log(sigma/2), which is 4 c_noise - log 2.
        (sd.Clock("c_noise", 4, -math.log(2)), lambda t, level: math.log(level.sigma / level.alpha / 2)),
        (sd.Clock("lam", -2), lambda t, level: -2 * math.log(level.alpha / level.sigma)),
        (sd.Clock("t", 999, whole=True), lambda t, level: round(999 * t)),
    ],
)
def test_a_clock_is_affine_in_its_base(clock, expected):
    sde, times = sd.VP(), [0.1, 0.31, 0.8]
    values = [expected(t, sd.level(sde, t)) for t in times]
    read = reads(sde, time=clock)(times)
    torch.testing.assert_close(read.double(), torch.tensor(values, dtype=F64), rtol=1e-12, atol=1e-12)
    assert read.dtype == (torch.int64 if clock.whole else F64)


def test_a_clock_of_the_index_reads_what_the_word_reads():
    table = sd.Table.from_betas(BETAS)
    assert torch.equal(reads(table, time=sd.Clock("index"))([1.0, 700.0]), reads(table, time="index")([1.0, 700.0]))
    assert reads(table, time=sd.Clock("index", 0.5, 3))([5.0]).item() == 5.0


def test_the_labels_of_a_descending_table_fall():
    sigmas = torch.linspace(50, 0.01, 10, dtype=F64)  # as NCSN's files hold them: label 0 is the largest
    table = sd.Table.from_sigmas(sigmas, descending=True)
    read = reads(table, time="index")
    for label, sigma in enumerate(sigmas.tolist()):
        time = table.t_of_lam(-math.log(sigma)).item()
        assert read([time]).item() == pytest.approx(label, abs=1e-9)
        assert sd.level(table, time).sigma == pytest.approx(sigma, rel=1e-12)
    assert table != sd.Table.from_sigmas(sigmas.flip(0))
    assert "descending=True" in repr(table)
    with pytest.raises(sd.SDEError, match="takes descending sigmas: flip the list"):
        sd.Table.from_sigmas([1.0, 2.0], descending=True)


def test_a_network_that_looks_its_clock_up_is_sampled_anywhere():
    class Lookup(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(1000, 1)
            torch.nn.init.zeros_(self.table.weight)

        def forward(self, x, t):
            assert t.dtype == torch.int64
            return 0.1 * x + self.table(t)

    model = sd.ScoreModel(Lookup().eval(), sd.VP(), time=sd.Clock("t", 999, whole=True))
    plain = sd.ScoreModel(lambda x, t: 0.1 * x, sd.VP())
    for dtype in (torch.float32, F64):
        net = sd.ScoreModel(Lookup().eval().to(dtype), sd.VP(), time=sd.Clock("t", 999, whole=True))
        assert torch.equal(sd.sample(net, (3, 2), dtype=F64), sd.sample(plain, (3, 2), dtype=F64))
    half = model.map_net(lambda net: Lookup().eval().half())
    assert sd.sample(half, (3, 2)).dtype == torch.float32  # half precision must not turn the integers into fractions


def test_what_is_no_clock_is_refused():
    with pytest.raises(sd.ModelError, match="unknown clock 'time': that is 't' here"):
        sd.Clock("time")
    with pytest.raises(sd.ModelError, match="scale=0"):
        sd.Clock("t", 0)
    with pytest.raises(sd.Error, match="offset='1'"):
        sd.Clock("t", 1, "1")
    with pytest.raises(sd.ModelError, match="write the clock's own offset"):
        sd.ScoreModel(lambda x, t: x, sd.Table.from_betas(BETAS), time=sd.Clock("index"), offset=0)
    with pytest.raises(sd.ModelError, match="needs a Table"):
        sd.ScoreModel(lambda x, t: x, sd.VP(), time=sd.Clock("index"))
    assert eval(repr(sd.Clock("t", -1, 1, True)), {"Clock": sd.Clock}) == sd.Clock("t", -1, 1, True)


def test_songs_exponential_process():
    # Integral of 25^(2s) over [0, t]: (25^(2t) - 1) / (2 log 25).
    sde = sd.VE.exponential(25.0)
    t = torch.tensor([1e-3, 0.2, 1.0], dtype=F64)
    torch.testing.assert_close(sde.sigma(t) ** 2, (25 ** (2 * t) - 1) / (2 * math.log(25)), rtol=1e-12, atol=0)
    torch.testing.assert_close(sde.diffusion(t), 25**t, rtol=1e-9, atol=0)
    long = sd.VE.exponential(3.0, T=2.0, t_min=1e-4)
    assert long.sigma(torch.tensor(2.0, dtype=F64)).item() ** 2 == pytest.approx((3**4 - 1) / (2 * math.log(3)))
    assert (long.T, long.t_min) == (2.0, 1e-4)
    with pytest.raises(sd.SDEError, match="base=1"):
        sd.VE.exponential(1.0)
