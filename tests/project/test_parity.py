"""Our named solvers beside the peers' own code, on the same levels and the same noise: benchmarks/parity.py's cases."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import sdediff as sd

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
parity = importlib.import_module("parity")

CASES = parity.cases()
NEEDED = {"k-diffusion": "k_diffusion", "diffusers": "diffusers"}
# Asked before a peer is loaded: what stands for k_diffusion afterwards has no spec.
MISSING = [peer for peer, module in NEEDED.items() if importlib.util.find_spec(module) is None]


def _label(case: parity.Case) -> str:
    return "-".join((case.peer, case.theirs, case.ours)).replace(" ", "_")


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES, ids=_label)
def test_named_solver_is_the_peers_own_step_for_step(case: parity.Case) -> None:
    if case.peer in MISSING:
        pytest.skip(f"{case.peer} is not installed")
    found = parity.measure(case)
    if found.error == "not registered":
        pytest.skip(f"{case.ours} is not registered")
    assert not found.error
    if case.differs:
        # A difference by design that vanished is a note that has become untrue.
        assert found.gap > parity.BAR
    else:
        assert found.verdict == "within", f"{found.gap:.1e} in float64, {found.shipped:.1e} as shipped"


def test_recorded_noise_is_the_counters_and_replays_in_order() -> None:
    noise, like = parity.Recorded(3), torch.zeros(2, 4, dtype=torch.float64)
    row = sd.levels(sd.EDM(), [2.0, 1.0, 0.5])
    drawn = [noise(row[0], row[1], like), noise(row[1], row[2], like, 1)]
    assert torch.equal(drawn[0], sd.Counter(3)(row[0], row[1], like))
    assert torch.equal(drawn[1], sd.Counter(3)(row[1], row[2], like, 1))
    replay = noise.replay()
    assert all(torch.equal(replay(like), z) for z in drawn)
    assert bool((replay(like) == 1e6).all())
    with pytest.raises(LookupError, match="more often"):
        replay(like)


def test_every_case_names_what_it_compares() -> None:
    assert {case.peer for case in CASES} == set(parity.SHIPPED)
    assert all(case.note for case in CASES if case.differs)
    assert len({(case.peer, case.theirs, case.ours) for case in CASES}) == len(CASES)
