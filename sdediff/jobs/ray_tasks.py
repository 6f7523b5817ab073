"""`RayTasks`: shards computed by the tasks of a Ray cluster; this process alone writes."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sdediff.datasets import needed
from sdediff.jobs.compute import Order, Receipt
from sdediff.jobs.engines import Advance, Engine, attempt, joined
from sdediff.jobs.errors import JobError, Stopped
from sdediff.jobs.work import Batch, Recipe, Say, Work

# Shards in flight for a slot of the cluster; how often a task whose node or worker died is begun again.
_AHEAD, _RETRIES = 2, 5
# The seconds after which a signal is noticed.
_PATIENCE = 0.5
# The works that a process of the cluster has made, by the hash of their recipe.
_works: dict[str, Work] = {}


class RayTasks(Engine):
    """Tasks on the cluster at `address`, by default one that is started on this machine for `workers` at once.

    A task has as many CPUs as the recipe has threads, and a GPU where its device is cuda. The cluster may grow and
    shrink meanwhile; tasks whose node is lost are begun again.
    """

    def __init__(self, recipe: Recipe, workers: int | None, address: str | None, say: Say) -> None:
        if workers is not None and address is not None:
            raise JobError(f"workers={workers} is for a cluster that is started here: leave it out with an address")
        self.recipe, self.workers, self.address, self.say = recipe, workers, address, say
        self.slots = workers or 1

    def receipts(
        self, work: Work, orders: Iterator[Order], ready: dict[range, Batch], advance: Advance
    ) -> Iterator[Receipt]:
        ray: Any = needed("ray", "sdediff[ray]")
        with self._connected(ray), _flagged() as stopped:
            tasks = _Tasks(ray, self.recipe.of(work))
            failures: list[JobError] = []
            waiting = iter(orders)
            more = True
            while more or tasks.flying:
                while more and not failures and len(tasks.flying) < _AHEAD * self._slots(ray):
                    order = next(waiting, None)
                    more = order is not None
                    if order is not None:
                        tasks.submit(order)
                if failures and not tasks.flying:
                    break
                for result in tasks.finished():
                    if isinstance(result, Receipt):
                        advance(len(result.order.units))
                        yield result
                    else:
                        failures.append(result)
                if stopped:
                    raise Stopped(stopped[0])
            if failures:
                raise joined(failures)

    def _slots(self, ray: Any) -> int:
        """How many tasks the cluster can compute at once, now."""
        have, need = ray.cluster_resources(), _resources(self.recipe)
        slots = [int(have.get(kind, 0) // count) for kind, count in need.items() if count]
        self.slots = max(1, min(slots, default=1))
        return self.slots

    @contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        """A connection to the cluster, or one that the program has made already and keeps."""
        if ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_task_oom_retries", "0")
        local = self.address is None
        options: dict[str, Any] = {"address": "local" if local else self.address, "log_to_driver": False}
        if local:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            options.update(include_dashboard=False, num_cpus=(self.workers or _cores()) * self.recipe.threads)
        try:
            ray.init(**options)
        except Exception as error:  # Ray raises many kinds: a wrong address, a version, a missing token
            hint = "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH" if "uthentication" in repr(error) else "give its address"
            text = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise JobError(f"no connection to the Ray cluster {options['address']!r} ({text}): {hint}") from error
        try:
            yield
        finally:
            ray.shutdown()


class _Tasks:
    """The tasks in flight."""

    def __init__(self, ray: Any, recipe: Recipe) -> None:
        need = _resources(recipe)
        self._ray, self._recipe = ray, ray.put(recipe)
        self._key = hashlib.sha256(pickle.dumps(recipe)).hexdigest()
        # Without max_calls=0 a task with a GPU ends its process, which would load the model anew for every shard.
        options = {"num_cpus": need["CPU"], "num_gpus": need["GPU"], "max_calls": 0, "max_retries": _RETRIES}
        self._task = ray.remote(**options)(_task)
        self.flying: dict[Any, Order] = {}

    def submit(self, order: Order) -> None:
        self.flying[self._task.remote(self._recipe, self._key, order)] = order

    def finished(self) -> Iterator[Receipt | JobError]:
        """What ended within half a second; where memory ran out the task is begun again with half the micro-batch."""
        errors = self._ray.exceptions
        ended, _ = self._ray.wait(list(self.flying), timeout=_PATIENCE)
        for reference in ended:
            order = self.flying.pop(reference)
            try:
                yield self._ray.get(reference)
            except errors.OutOfMemoryError:
                if order.micro_batch == 1:
                    yield JobError(f"shard {order.number}: memory ran out with one sample at a time: give fewer CPUs")
                else:
                    self.submit(replace(order, micro_batch=order.micro_batch // 2))
            except errors.RayError as error:
                cause = getattr(error, "cause", None) or error
                text = (str(cause).strip().splitlines() or [""])[0][:200]
                yield JobError(f"shard {order.number}: {type(cause).__name__}: {text}")


def _task(recipe: Recipe, key: str, order: Order) -> Receipt | JobError:
    """Compute a shard in a process of the cluster, which keeps its work."""
    import torch

    def make() -> Work:
        if key not in _works:
            _works[key] = recipe.work()
        return _works[key]

    torch.set_num_threads(recipe.threads)
    return attempt(make, order)


def _resources(recipe: Recipe) -> dict[str, int]:
    """What a task needs."""
    gpu = str(recipe.arguments.get("device") or "cpu").startswith("cuda")
    return {"CPU": recipe.threads, "GPU": int(gpu)}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _flagged() -> Iterator[list[int]]:
    """A list that holds the signal, once one came: Ray's calls are not interrupted in their midst."""
    stopped: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda number, _: stopped.append(number)) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
