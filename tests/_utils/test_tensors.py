"""Numbers a coordinate: made once for every kind of states, and kept as far as there is room."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sdediff import tensors
from sdediff._utils.tensors import Columns, LookedUp


class Made:
    """Arrays of a size, counted as they are made."""

    def __init__(self, size: int) -> None:
        self.size, self.count = size, 0

    def __call__(self, key: int) -> np.ndarray:
        self.count += 1
        return np.full(self.size, float(key))


def test_arrays_are_kept_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for three arrays of 744 coordinates and the 256 that each is taken for beside them."""
    monkeypatch.setattr(tensors, "ARRAYS", tensors._Lookup(3000))
    made = Made(744)
    find = LookedUp(made).sized(744)
    assert [find(key)[0] for key in (0, 1, 2, 0, 1, 2)] == [0, 1, 2, 0, 1, 2]
    assert made.count == 3
    find(0)
    find(3)  # 1 has not been asked for the longest
    assert find(0)[0] == 0
    assert find(2)[0] == 2
    assert made.count == 4
    assert find(1)[0] == 1
    assert made.count == 5
    large = Made(10_000)
    for _ in range(2):  # larger than the room: given, not kept
        assert LookedUp(large).sized(10_000)(7).shape == (10_000,)
    assert large.count == 2
    assert find(0)[0] == 0
    assert made.count == 5


def test_threads_share_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every thread finds the right array while others push it out, and the room is accounted for at the end."""
    monkeypatch.setattr(tensors, "ARRAYS", tensors._Lookup(4 * (8 + 256)))
    find, wrong = LookedUp(Made(8)).sized(8), []

    def work(first: int) -> None:
        wrong.extend(key for i in range(2000) if find(key := (first + i) % 7)[0] != key)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert tensors.ARRAYS._left == 4 * (8 + 256) - sum(size for _, size in tensors.ARRAYS._kept.values()) >= 0


def test_columns_are_tensors_of_the_states_kind() -> None:
    columns = Columns(np.array([1 / 3, 2.0]), 0.5)
    for kind in (torch.float32, torch.float64, torch.float32):
        first, second = columns.like(torch.empty(3, 2, dtype=kind))
        assert first.dtype is second.dtype is kind
        assert first[0].item() == torch.tensor(1 / 3, dtype=kind).item()
        assert second.tolist() == [0.5, 0.5]
