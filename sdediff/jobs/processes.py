"""`Workers`: shards computed by processes of this machine, each of which makes the work once from its recipe."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from sdediff.jobs.compute import Order, Receipt
from sdediff.jobs.engines import Advance, Engine, attempt, joined
from sdediff.jobs.errors import JobError
from sdediff.jobs.work import Batch, Recipe, Say, Work

# Shards in flight for a worker, so that none waits for this process; breakdowns in a row without a finished shard.
_AHEAD, _MOST_BREAKS = 2, 3
# The recipe and device of a worker process, and the work that it made from them.
_own: dict[str, Any] = {}


class Workers(Engine):
    """`count` processes, a GPU each where the recipe's device is cuda. A worker that is killed is replaced."""

    def __init__(self, recipe: Recipe, count: int, say: Say) -> None:
        if count < 1:
            raise JobError(f"workers={count}: give at least 1")
        self.recipe, self.slots, self.say = recipe, count, say

    def receipts(
        self, work: Work, orders: Iterator[Order], ready: dict[range, Batch], advance: Advance
    ) -> Iterator[Receipt]:
        again: list[Order] = []
        breaks = 0
        while True:
            pool = _Pool(self.recipe.of(work), self.slots)
            try:
                for receipt in pool.run(itertools.chain(again, orders)):
                    breaks = 0
                    advance(len(receipt.order.units))
                    yield receipt
                return
            except BrokenProcessPool:
                again, breaks = list(pool.begun.values()), breaks + 1
                if breaks == _MOST_BREAKS:
                    raise JobError(
                        f"workers ended {breaks} times in a row before a shard was finished, killed or out of memory: "
                        "give fewer --workers, or a smaller --micro-batch"
                    ) from None
                self.say("a worker ended before its shard was finished: new workers compute it again")
            finally:
                pool.close()


class _Pool:
    """A pool of worker processes, which end when this process ends or closes it."""

    def __init__(self, recipe: Recipe, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.begun: dict[int, Order] = {}
        self._futures: dict[Future[Any], Order] = {}
        self._most = _AHEAD * count
        # A worker sees the end of this process, however it comes, as the end of the pipe.
        theirs, self._open = context.Pipe(duplex=False)
        devices = context.SimpleQueue()
        for k in range(count):
            devices.put(_device(recipe, k))
        self._pool = ProcessPoolExecutor(count, context, _begin, (recipe, devices, theirs))

    def run(self, orders: Iterator[Order]) -> Iterator[Receipt]:
        """The receipts; a shard that fails as a whole is reported when those in flight are finished."""
        failures: list[JobError] = []
        for order in orders:
            self.begun[order.number] = order  # before it is submitted, which raises where the pool broke
            self._futures[self._pool.submit(_shard, order)] = order
            while len(self._futures) >= self._most:
                yield from self._finished(failures)
            if failures:
                break
        while self._futures:
            yield from self._finished(failures)
        if failures:
            raise joined(failures)

    def _finished(self, failures: list[JobError]) -> Iterator[Receipt]:
        for future in wait(list(self._futures), return_when=FIRST_COMPLETED).done:
            result = future.result()  # raises BrokenProcessPool, and the shard stays begun
            order = self._futures.pop(future)
            del self.begun[order.number]
            if isinstance(result, Receipt):
                yield result
            else:
                failures.append(result)

    def close(self) -> None:
        """End the workers, at once where one still computes."""
        self._open.close()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _device(recipe: Recipe, k: int) -> str | None:
    """The device of worker k; None where it is that of the recipe."""
    given = str(recipe.arguments.get("device") or "cpu")
    count = torch.cuda.device_count() if given == "cuda" else 0
    return f"cuda:{k % count}" if count else None


def _begin(recipe: Recipe, devices: Any, pipe: Any) -> None:
    """Prepare a worker process: no signals of the terminal, and an end with that of its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(recipe.threads)
    _own.update(recipe=recipe, device=devices.get(), work=None)

    def watch() -> None:
        try:
            pipe.recv()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _shard(order: Order) -> Receipt | JobError:
    """Compute a shard in a worker."""
    return attempt(_work, order)


def _work() -> Work:
    """The work of this process, made when it is first needed."""
    if _own["work"] is None:
        recipe, device = _own["recipe"], _own["device"]
        _own["work"] = recipe.work(device=device) if device else recipe.work()
    return _own["work"]
