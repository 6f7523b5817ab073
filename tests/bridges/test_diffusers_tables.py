"""Our float64 tables beside the betas that diffusers' schedulers make."""

import pytest
import torch

pytest.importorskip("diffusers")

import sdediff as sd
from sdediff.bridges import reading_of
from sdediff.bridges.schedulers import SCHEDULERS, _discrete
from tests.bridges.small import MARKS, diffusers

pytestmark = MARKS
TABLES = [name for name, read in SCHEDULERS.items() if read is _discrete]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp"])
def test_the_table_is_the_schedulers(name, schedule):
    config = (
        {"beta_schedule": schedule} if schedule != "scaled_linear" else {"beta_schedule": schedule, "beta_end": 0.012}
    )
    try:
        theirs = getattr(diffusers, f"{name}Scheduler")(**config)
    except NotImplementedError:
        pytest.skip(f"{name} has no {schedule}")
    table = reading_of({**theirs.config, "_class_name": f"{name}Scheduler"}).sde
    ours = table.alpha(torch.arange(1, table.n + 1, dtype=torch.float64)) ** 2
    # Theirs is a float32 product of a thousand factors.
    torch.testing.assert_close(ours.float(), theirs.alphas_cumprod.float(), rtol=2e-4, atol=1e-8)


@pytest.mark.parametrize("name", ["DDIM", "DDPM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep"])
def test_zero_terminal_snr_is_the_schedulers(name):
    config = {"beta_schedule": "scaled_linear", "beta_start": 8.5e-4, "beta_end": 0.012, "rescale_betas_zero_snr": True}
    theirs = getattr(diffusers, f"{name}Scheduler")(**config)
    table = reading_of({**theirs.config, "_class_name": f"{name}Scheduler"}).sde
    ours = table.alpha(torch.arange(1, 1001, dtype=torch.float64)) ** 2
    torch.testing.assert_close(ours.float(), theirs.alphas_cumprod.float(), rtol=2e-3, atol=3e-8)
    assert (ours[-1] == 0) == (name in ("DDIM", "DDPM"))


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_defaults_are_the_librarys(name):
    """A configuration that says nothing is read as one that says every default."""
    made = getattr(diffusers, f"{name}Scheduler", None)
    if made is None:
        pytest.skip("removed from the library")
    full = reading_of({**made().config, "_class_name": f"{name}Scheduler"})
    empty = reading_of({"_class_name": f"{name}Scheduler"})
    assert (full.sde, full.predicts, full.time, full.sigma_data) == (
        empty.sde, empty.predicts, empty.time, empty.sigma_data,
    )  # fmt: skip
    assert isinstance(full.sde, sd.SDE)
