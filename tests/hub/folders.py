"""A network to save, and a saved folder that is edited and refused."""

import json
import time
import tracemalloc

import pytest
import torch

from sdediff import hub
from sdediff.hub import HubError
from sdediff.nets import MLP
from sdediff.training import build

X, T = torch.linspace(-1, 1, 10).reshape(2, 5), torch.tensor([0.2, 0.7], dtype=torch.float64)


def net():
    made = build(lambda: MLP(5, 16, 2))
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.01)
    return made


def edit(folder, **changes):
    """Changes fields of config.json; the digest goes, so that the fault is met by the check that it is for."""
    config = json.loads((folder / "config.json").read_text())
    config.update({"sha256": None, **changes})
    (folder / "config.json").write_text(json.dumps(config))


def refused(folder, match):
    """One HubError that names its place, within a second of the processor and with no large allocation."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(HubError, match=match) as caught:
            hub.load(folder)
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert seconds < 1
    assert peak < 8_000_000  # from Python 3.14 on json reads brackets until the stack is used up, with 4 MB
    return str(caught.value)
