"""`Engine`: where shards are computed; `Local`, this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from sdediff.jobs.compute import Order, Receipt, compute
from sdediff.jobs.errors import JobError
from sdediff.jobs.work import Batch, Work

Advance = Callable[[int], None]


class Engine(ABC):
    """Computes shards; the process that runs the job writes them. `slots`: how many it computes at once."""

    slots: int = 1

    @abstractmethod
    def receipts(
        self, work: Work, orders: Iterator[Order], ready: dict[range, Batch], advance: Advance
    ) -> Iterator[Receipt]:
        """The shards of the orders, as they are finished. Orders are taken when they are begun, no earlier.

        ready: micro-batches that were computed before. advance: called with numbers of units that are done.
        """


def attempt(make: Callable[[], Work], order: Order) -> Receipt | JobError:
    """Compute a shard in another process; what fails comes back in words, since not every exception can travel."""
    try:
        return compute(make(), order)
    except JobError as error:
        return type(error)(str(error))
    except Exception as error:
        return JobError(f"shard {order.number}: {type(error).__name__}: {error}")


def joined(failures: list[JobError]) -> JobError:
    """One error of several shards."""
    if len(failures) == 1:
        return failures[0]
    texts = list(dict.fromkeys(str(failure) for failure in failures))
    return JobError(f"{len(failures)} shards failed: {'; '.join(texts[:3])}")


class Local(Engine):
    """Computes in this process, one shard after the other; the only engine for a work made of live objects."""

    def receipts(
        self, work: Work, orders: Iterator[Order], ready: dict[range, Batch], advance: Advance
    ) -> Iterator[Receipt]:
        for order in orders:
            yield compute(work, order, advance, ready)
