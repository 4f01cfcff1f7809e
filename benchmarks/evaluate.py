"""Print the speed of `evaluate` for b16 at 224 px on the CPU over that of timm, Paddle eager and the bare predictor.

Every round takes all in turn on the same images, so that what else the machine does falls on all. `evaluate`
resizes, normalises, runs and counts; the others get batches that are preprocessed already. On a processor that has
bfloat16 the predictor runs in it too, and its speed is told over that in float32.

Usage: evaluate.py [ROUNDS] [IMAGES PER ROUND] [BATCH]
"""

import sys
import time
from dataclasses import replace

import numpy as np
import paddle
import timing

from align.probes.knobs import cpus
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import get_variant
from reports.data.batches import batches, parts_of
from reports.score import engines
from reports.score.accuracy import predictions_of
from reports.score.bfloat16 import has_bfloat16
from reports.score.published import figure_by_id

ROUNDS, COUNT, BATCH = (int(value) for value in (sys.argv[1:] + ["5", "32", "16"][len(sys.argv) - 1 :]))

config = replace(get_variant("b16_in21k").config, num_classes=10)
source = init_state_dict(config, 0)
converted = convert_state_dict(source, config).state_dict
preprocessing = figure_by_id("google_b16_in21k").preprocessing
generator = np.random.default_rng(0)
pixels = generator.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
labels = generator.integers(0, 10, COUNT)
PARTS = parts_of(COUNT, BATCH)
ready = [images for _, images in batches(pixels, preprocessing, PARTS)]
predictor = engines.inference(config, converted)
eager = engines.eager(config, converted)


def untouched(images):
    """Run Paddle eager as it comes: its matrix products on one thread."""
    paddle.base.core.set_num_threads(1)
    try:
        return eager(images)
    finally:
        paddle.base.core.set_num_threads(cpus())


models = {
    "bare predictor": predictor,
    "timm eager": engines.timm_eager(config, source),
    "Paddle eager": untouched,
    "Paddle eager, all threads": eager,
}
if has_bfloat16():
    models["bare predictor, bfloat16"] = engines.inference(config, converted, "bfloat16")
else:
    print("No row of bfloat16: this processor has none (neither avx512_bf16 nor amx_bf16).", file=sys.stderr)


def evaluated():
    """Run what the command runs for every batch."""
    for part, images in batches(pixels, preprocessing, PARTS):
        predictions_of(predictor(images), labels[part])


def speed(run):
    """Return images per second of one run."""
    started = time.perf_counter()
    run()
    return COUNT / (time.perf_counter() - started)


runs = {"evaluate": evaluated} | {
    name: (lambda engine=engine: [engine(images) for images in ready]) for name, engine in models.items()
}
for engine in models.values():
    engine(ready[0])
rounds = []
for number in range(ROUNDS):
    order = list(runs) if number % 2 == 0 else list(reversed(runs))
    rounds.append({name: speed(runs[name]) for name in order})
TARGETS = {"bare predictor": "≥ 0.9", "timm eager": "≥ 1.8", "Paddle eager": "≥ 6"}
speeds = {name: [found[name] for found in rounds] for name in runs}
rows = "\n".join(f"| {name} | {timing.spread(values)} |" for name, values in speeds.items())
ratios = [
    timing.Ratio(
        what=f"evaluate, b16 at {config.image_size} px / {name}",
        target=TARGETS.get(name, ""),
        values=timing.over(speeds["evaluate"], speeds[name]),
    )
    for name in models
    if "bfloat16" not in name
]
if "bare predictor, bfloat16" in speeds:
    in_bfloat16 = timing.over(speeds["bare predictor, bfloat16"], speeds["bare predictor"])
    ratios.append(timing.Ratio(what="bare predictor, bfloat16 / float32", target="", values=in_bfloat16))
timing.report(
    ratios,
    f"{ROUNDS} alternating rounds of {COUNT} images, batch {BATCH}\n\n| images/s | median | least | greatest |\n"
    f"| --- | --- | --- | --- |\n{rows}",
)
