"""The throughput of training on this machine, measured on the real model by the steps that `finetune` takes."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from align.probes.knobs import cpus
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig
from reports.score.parallel import Group
from reports.train.recipes import Recipe
from reports.train.trainer import Trainer

ON_A_CPU = 2
"""Images per step on a CPU, where a whole micro-batch would take minutes."""
STEPS = 2
"""Timed steps; one untimed step before them takes the cost of what is done only once."""


def images_per_second(recipe: Recipe, config: MixerConfig, device: str) -> tuple[float, int]:
    """Return the images per second of training steps of one micro-batch each, and how many images that has.

    Args:
        recipe: Optimizer and micro-batch; on a CPU the micro-batch is ON_A_CPU.
        config: The model; its weights are seeded.
        device: The device for Paddle to run on.
    """
    count = ON_A_CPU if device == "cpu" else recipe.micro_batch
    step = replace(recipe, batch_size=count, micro_batch=count)
    weights = convert_state_dict(init_state_dict(config, 0), config).state_dict
    trainer = Trainer(config, weights, step, device=device, threads=cpus(), group=Group())
    images = np.zeros((count, config.in_chans, config.image_size, config.image_size), np.float32)
    labels = np.zeros(count, np.int64)
    trainer.step(images, labels, 0.0, count)
    started = time.perf_counter()
    for _ in range(STEPS):
        trainer.step(images, labels, 0.0, count)
    return STEPS * count / (time.perf_counter() - started), count
