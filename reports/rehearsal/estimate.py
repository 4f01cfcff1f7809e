"""What the real run takes: time, memory and disk by formulae, from a throughput that was measured or given. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from convert.mixer.shapes import timm_shapes
from convert.mixer.variants import MixerConfig, get_variant
from reports.data.cifar10 import CLASSES, TEST_IMAGES
from reports.train.checkpoints import KEPT
from reports.train.recipes import Recipe

FLOAT32 = 4
"""Bytes of a float32."""
TRAIN_IMAGES = 50_000
ARCHIVE_BYTES = 170_498_071
"""Source: the length with which https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz is served."""
MOMENTS = {"sgd": 1, "adam": 2, "adamw": 2}
"""Values that an optimizer keeps for each parameter: momentum; Adam's first and second moment.

Source: https://arxiv.org/abs/1412.6980, algorithm 1.
"""
FORWARD_SHARE = 1 / 3
"""Share of the forward pass in a training step: the backward pass computes twice as much.

Source: https://arxiv.org/abs/2001.08361, section 2.1.
"""
LOG_LINE_BYTES = 230
"""Bytes of a step in log.jsonl and timing.jsonl together, rounded up from the 193 that a rehearsal wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a recipe takes on a number of identical devices, one process on each.

    images_per_second and memory_bytes are of one device. accumulation: how many forwards of micro_batch images, whose
    gradients are summed, a device runs in a step.
    """

    recipe: str
    devices: int
    images_per_second: float
    steps: int
    batch_size: int
    micro_batch: int
    accumulation: int
    seconds: float
    memory_bytes: int
    disk_bytes: int


def real_config() -> MixerConfig:
    """Return the config of the real run: Mixer-B/16 at 224 px, with a head for CIFAR-10."""
    return replace(get_variant("b16_in21k").config, num_classes=len(CLASSES))


def estimate(recipe: Recipe, config: MixerConfig, images_per_second: float, devices: int) -> Estimate:
    """Return what a fine-tuning takes.

    The time is that of training on the images of all steps, and of a forward of the test images at the end. The devices
    are assumed to share the work evenly and to lose no time summing their gradients, so for several devices it is a
    lower bound.

    Args:
        recipe: Steps, batch and micro-batch.
        config: The model's sizes.
        images_per_second: Throughput of training, forward and backward, on one device.
        devices: How many share each batch.
    """
    steps, seen = recipe.length(recipe.images_used(TRAIN_IMAGES))
    share = math.ceil(recipe.batch_size / devices)
    micro_batch = min(recipe.micro_batch, share)
    images = seen + TEST_IMAGES * FORWARD_SHARE
    return Estimate(
        recipe=recipe.name,
        devices=devices,
        images_per_second=images_per_second,
        steps=steps,
        batch_size=recipe.batch_size,
        micro_batch=micro_batch,
        accumulation=math.ceil(share / micro_batch),
        seconds=images / (images_per_second * devices),
        memory_bytes=memory_bytes(recipe, config, micro_batch),
        disk_bytes=disk_bytes(recipe, config),
    )


def parameters(config: MixerConfig) -> int:
    """Return how many values the weights have."""
    return sum(math.prod(shape) for shape in timm_shapes(config).values())


def activations(config: MixerConfig) -> int:
    """Return how many values the backward pass needs from the forward pass of one image, in a Mixer.

    For each Linear, GELU and LayerNorm that is its input: in a block, the inputs of norm1 and norm2, (tokens,
    hidden_dim), and in both MLPs the inputs of fc1, the GELU and fc2. Added to these are the image and the inputs of
    the last norm and the head. A sum needs nothing kept; a LayerNorm's means and variances are left out, as they are
    under a thousandth.

    Source: the derivatives of these layers, as convert/mixer/paddle_mixer.py calls them. That Paddle keeps this much
    and no more is measured in tests/test_reports_rehearse.py.
    """
    grid = config.tokens * config.hidden_dim
    block = 4 * grid + 2 * config.hidden_dim * config.tokens_mlp_dim + 2 * config.tokens * config.channels_mlp_dim
    ends = config.in_chans * config.image_size**2 + grid + config.hidden_dim
    return config.num_blocks * block + ends


def memory_bytes(recipe: Recipe, config: MixerConfig, micro_batch: int) -> int:
    """Return the bytes of parameters, gradients, the optimizer's moments and a micro-batch's activations, in float32.

    Not included: the framework itself, and what a layer needs only while it computes.

    Source: https://arxiv.org/abs/1910.02054, section 3, for what takes the memory of training.
    """
    states = parameters(config) * (2 + MOMENTS[recipe.optimizer])
    return FLOAT32 * (states + micro_batch * activations(config))


def disk_bytes(recipe: Recipe, config: MixerConfig) -> int:
    """Return the bytes of all files: the archive, the upstream's weights, final weights, checkpoints and log.

    A checkpoint has the weights and the optimizer's moments; KEPT of them are kept while one more is written. The
    upstream's head is taken to be b16_in21k's, the largest there is.
    """
    upstream = parameters(replace(config, num_classes=get_variant("b16_in21k").config.num_classes))
    checkpoints = (KEPT + 1) * (1 + MOMENTS[recipe.optimizer])
    steps, _ = recipe.length(recipe.images_used(TRAIN_IMAGES))
    tensors = FLOAT32 * (upstream + parameters(config) * (1 + checkpoints))
    return ARCHIVE_BYTES + tensors + steps * LOG_LINE_BYTES


def lines(estimates: Sequence[Estimate]) -> Iterator[str]:
    """Yield a table of estimates, a line each."""
    columns = (("devices", 7), ("steps of images", 16), ("forwards of images", 18), ("time", 10), ("memory", 8))
    yield " ".join([f"{'recipe':19}", *(f"{name:>{width}}" for name, width in columns), "   disk"])
    for one in estimates:
        steps, forwards = f"{one.steps:,} of {one.batch_size}", f"{one.accumulation} of {one.micro_batch}"
        memory, disk = f"{one.memory_bytes / 1e9:.1f} GB", f"{one.disk_bytes / 1e9:.1f} GB"
        cells = f"{one.recipe:19} {one.devices:>7} {steps:>16} {forwards:>18} {_span(one.seconds):>10}"
        yield f"{cells} {memory:>8} {disk:>7}"


def _span(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min"
