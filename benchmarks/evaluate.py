"""Print the speed of `evaluate` for b16 at 224 px on the CPU relative to timm, Paddle eager and the bare predictor.

Every round runs all of them in turn on the same images, so that other load on the machine affects all alike; Paddle
eager, which is slow, gets only the first batch. `evaluate` resizes, normalises, runs and counts; the others get batches
that are preprocessed already. timm runs eagerly and with `torch.compile`; on a processor with bfloat16 `evaluate` runs
in it too, and so does timm, under autocast and with the whole model cast.

Usage: evaluate.py [ROUNDS] [IMAGES PER ROUND] [BATCH]
"""

import contextlib
import sys
import time
from dataclasses import replace

import numpy as np
import paddle
import timing
import torch

from align.mixer.models import build_timm
from align.probes.knobs import usual_threads
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import get_variant
from reports.data.batches import batches, parts_of
from reports.score import engines
from reports.score.accuracy import predictions_of
from reports.score.bfloat16 import has_bfloat16
from reports.score.published import figure_by_id

ROUNDS, COUNT, BATCH = (int(value) for value in (sys.argv[1:] + ["5", "96", "16"][len(sys.argv) - 1 :]))

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


def eager_on(threads):
    """Return Paddle eager with its matrix products on this many threads."""

    def logits(images):
        paddle.base.core.set_num_threads(threads)
        return eager(images)

    return logits


models = {
    "bare predictor": predictor,
    "timm eager": engines.timm_eager(config, source),
    "Paddle eager": eager_on(1),  # as it comes out of the box
    "Paddle eager, all threads": eager_on(usual_threads()),
}


def timm_by(change, context=contextlib.nullcontext):
    """Return timm's model as an engine: changed as a torch user would to make it faster, and run in a context."""
    model = change(build_timm(config, None, source))

    def logits(images):
        with torch.inference_mode(), context():
            return model(torch.from_numpy(images)).float().numpy()

    return logits


def in_bfloat16(model):
    """Return the whole model cast to bfloat16, with its images cast too."""
    whole = model.bfloat16()
    return lambda images: whole(images.bfloat16())


models["timm, torch.compile"] = timm_by(torch.compile)
if has_bfloat16():
    models["bare predictor, bfloat16"] = engines.inference(config, converted, "bfloat16")
    models["timm, bfloat16 autocast"] = timm_by(lambda model: model, lambda: torch.autocast("cpu", torch.bfloat16))
    models["timm, whole in bfloat16"] = timm_by(in_bfloat16)
else:
    print("No row of bfloat16: this processor has none (neither avx512_bf16 nor amx_bf16).", file=sys.stderr)


def evaluated(engine):
    """Run what the command runs for every batch; return the number of images."""
    for part, images in batches(pixels, preprocessing, PARTS):
        predictions_of(engine(images), labels[part])
    return COUNT


def speed(run):
    """Return the images per second of one run, a function that returns its number of images."""
    started = time.perf_counter()
    count = run()
    return count / (time.perf_counter() - started)


def over(name):
    """Return a function that runs an engine on the preprocessed batches and returns their number of images."""
    given = ready[:1] if name.startswith("Paddle eager") else ready
    return lambda: sum(len(models[name](images)) for images in given)


runs = {"evaluate": lambda: evaluated(predictor)} | {name: over(name) for name in models}
IN_BFLOAT16 = "evaluate in bfloat16"
if "bare predictor, bfloat16" in models:
    runs[IN_BFLOAT16] = lambda: evaluated(models["bare predictor, bfloat16"])
for engine in models.values():
    engine(ready[0])
rounds = []
for number in range(ROUNDS):
    order = list(runs) if number % 2 == 0 else list(reversed(runs))
    rounds.append({name: speed(runs[name]) for name in order})
TARGETS = {"bare predictor": "≥ 0.9", "timm eager": "≥ 1.2", "timm, torch.compile": "≥ 1", "Paddle eager": "≥ 6"}
TARGETS_IN_BFLOAT16 = {"evaluate": "≥ 2", "timm eager": "≥ 2.4", "the fastest of torch's ways": "≥ 1"}
TORCH = [name for name in models if name.startswith("timm")]
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
if IN_BFLOAT16 in speeds:
    fastest = [max(found[name] for name in TORCH) for found in rounds]
    others = {"evaluate": speeds["evaluate"]} | {name: speeds[name] for name in TORCH}
    ratios += [
        timing.Ratio(
            what=f"{IN_BFLOAT16}, b16 at {config.image_size} px / {name}",
            target=TARGETS_IN_BFLOAT16.get(name, ""),
            values=timing.over(speeds[IN_BFLOAT16], values),
        )
        for name, values in {**others, "the fastest of torch's ways": fastest}.items()
    ]
timing.report(
    ratios,
    f"{ROUNDS} alternating rounds of {COUNT} images, batch {BATCH}\n\n| images/s | median | least | greatest |\n"
    f"| --- | --- | --- | --- |\n{rows}",
)
