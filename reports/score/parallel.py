"""The processes that `python -m paddle.distributed.launch` starts: the place of each, and sums over all of them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from convert.arrays import Array
from convert.errors import IntegrityProblem
from reports.data.batches import parts_of
from reports.score.accuracy import Predictions
from reports.score.predictions import DTYPES, OPTIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A process's place among those that share the work; alone by default."""

    rank: int = 0
    processes: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return the slice of count things that is this process's share; shares differ in size by at most one."""
        return slice(count * self.rank // self.processes, count * (self.rank + 1) // self.processes)

    def parts(self, count: int, batch_size: int) -> list[slice]:
        """Return the slices of count images that are this process's batches; each batch goes whole to one process."""
        return parts_of(count, batch_size, rank=self.rank, processes=self.processes)

    def images(self, count: int, batch_size: int) -> int:
        """Return how many of count images are in this process's batches."""
        return sum(part.stop - part.start for part in self.parts(count, batch_size))

    def sum_of(self, values: Array) -> Array:
        """Return the element-wise sum of every process's values, float64; all processes have to call this."""
        if self.processes == 1:
            return values.astype(np.float64)
        import paddle

        total = paddle.to_tensor(values.astype(np.float64))
        paddle.distributed.all_reduce(total)
        return np.asarray(total.numpy())


def launched() -> Group:
    """Connect to the other processes that the launcher started, if any; return this process's place among them."""
    processes = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if processes == 1:
        return Group()
    import paddle

    paddle.distributed.init_parallel_env()
    return Group(rank=paddle.distributed.get_rank(), processes=paddle.distributed.get_world_size())


def gathered(parts: list[tuple[slice, Predictions]], count: int, compared: bool, group: Group) -> Predictions:
    """Return the predictions of all images, combined from every process's.

    Args:
        parts: This process's: which images, and their predictions.
        count: How many images there are.
        compared: Whether a second model saw them too.
        group: The processes, all of which have to call this.

    Raises:
        IntegrityProblem: An image was not counted exactly once.
    """

    def whole(name: str) -> Array:
        column = np.zeros(count)
        for part, predictions in parts:
            column[part] = getattr(predictions, name)
        return group.sum_of(column).astype(DTYPES[name])

    counted = np.zeros(count)
    for part, _ in parts:
        counted[part] += 1
    counted = group.sum_of(counted)
    if not (counted == 1).all():
        index = int(np.argmax(counted != 1))
        raise IntegrityProblem(f"image {index}: it was counted {counted[index]:.0f} times, not once. Run it again.")
    return Predictions(**{name: whole(name) for name in DTYPES if compared or name not in OPTIONAL})
