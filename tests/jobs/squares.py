"""A work without a network: the squares of the numbers of an array, for tests of the layer itself."""

from pathlib import Path

import numpy as np

from sdediff.jobs.running import run
from sdediff.jobs.work import Batch, Taken, Work


class Squares(Work):
    """Unit i is numbers[i] ** 2; what `breaks` names raises."""

    name, unit = "squares", "row"

    def __init__(self, numbers, breaks=(), block=8, stop=None):
        self.numbers, self.units, self.breaks, self.block, self.stop = numbers, len(numbers), breaks, block, stop
        self.seen = []

    def describe(self):
        return {"data": {"rows": self.units}, "model": {}, "settings": {"power": 2}}

    def schema(self):
        import pyarrow as pa

        return pa.schema([("index", pa.int64()), ("square", pa.float64()), ("status", pa.string())])

    def blocks(self, units):
        return range(units.start // self.block, -(-units.stop // self.block))

    def digests(self, units, total):
        return tuple(_hash(self.numbers[k * self.block : min((k + 1) * self.block, total)]) for k in self.blocks(units))

    def take(self, units):
        return Taken(np.array(self.numbers), self.digests(units, self.units))

    def identity(self, digests):
        return _hash("".join(digests).encode())

    def failed(self, unit, message):
        return {"status": f"failed: {message}"}

    def batch(self, content, units):
        self.seen.append(list(units))
        if self.stop is not None and self.stop in units:
            raise KeyboardInterrupt
        if set(self.breaks) & set(units):
            raise ValueError("this unit breaks")
        values = [float(content[unit]) ** 2 for unit in units]
        return Batch({"index": list(units), "square": values, "status": ["ok"] * len(units)}, {"power": 2})


def _hash(values):
    import hashlib

    return hashlib.sha256(bytes(values) if isinstance(values, bytes) else values.tobytes()).hexdigest()


def squares(count=40, breaks=(), stop=None):
    return Squares(np.arange(count, dtype=np.float64), breaks, stop=stop)


def compute(work, out: Path, said=None, **options):
    """Run a work of micro-batches of 2 and shards of 4, quietly."""
    given = {"micro_batch": 2, "shard": 4, "progress": False, **options}
    return run(work, out, say=(said if said is not None else []).append, **given)


def make_squares(count=40, device=None):
    """The work from plain arguments, for other processes."""
    return squares(count)
