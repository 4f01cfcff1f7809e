"""Print how fast 1 and 2 workers make batches of 512 training images at 224 px, relative to a thread without workers.

Every round runs all of them in turn. The speeds need free cores, one per worker and one for the process that takes the
batches; the processor time that this process itself spends per batch is printed as well, as the machine's load hardly
changes it. The first batch, by which time the workers have started, is not counted.

Usage: making.py [ROUNDS] [BATCHES PER ROUND]
"""

import sys
import time
from dataclasses import asdict

import numpy as np
import timing

from reports.data.making import Making
from reports.data.workers import made_batches
from reports.train.recipes import recipe_by_name

ROUNDS, BATCHES = (int(value) for value in (sys.argv[1:] + ["5", "6"][len(sys.argv) - 1 :]))
COUNT, SIZE, WORKERS = 512, 224, (0, 1, 2)

recipe = recipe_by_name("google")
pixels = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
making = Making(
    function="reports.train.augment:step_maker",
    settings={
        "preprocessing": asdict(recipe.preprocessing(SIZE)),
        "augmentation": recipe.augmentation,
        "seed": recipe.seed,
        "sizes": [COUNT, recipe.images_used(len(pixels)), COUNT * 1000],
    },
    shape=(COUNT, 3, SIZE, SIZE),
)


def made(workers):
    """Return images per second, and the seconds of processor time that this process spends on a batch."""
    batches = made_batches(making, pixels, [(step, slice(0, COUNT)) for step in range(BATCHES + 1)], workers=workers)
    next(batches)
    started, busy = time.perf_counter(), time.process_time()
    for _ in batches:
        pass
    return COUNT * BATCHES / (time.perf_counter() - started), (time.process_time() - busy) / BATCHES


rounds = []
for number in range(ROUNDS):
    order = WORKERS if number % 2 == 0 else WORKERS[::-1]
    rounds.append({workers: made(workers) for workers in order})
speeds, seconds = ({workers: [found[workers][i] for found in rounds] for workers in WORKERS} for i in (0, 1))
rows = "\n".join(
    f"| {workers} workers: {what} | {timing.spread(values[workers])} |"
    for what, values in (("images/s", speeds), ("own seconds a batch", seconds))
    for workers in WORKERS
)
timing.report(
    [
        timing.Ratio(
            what=f"batches of {COUNT} at {SIZE} px, {workers} worker(s) / a thread",
            target="",
            values=timing.over(speeds[workers], speeds[0]),
        )
        for workers in WORKERS[1:]
    ],
    f"{ROUNDS} alternating rounds of {BATCHES} batches\n\n"
    f"|  | median | least | greatest |\n| --- | --- | --- | --- |\n{rows}",
)
