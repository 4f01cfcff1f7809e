"""Print the speed of `finetune`'s steps relative to a bare Paddle loop, and to torch's loop on timm's model.

Every round runs all three in turn. `finetune` makes its images, logs and watches for signals; the loops get one batch
made beforehand, and do no more than forward, backward and the optimizer's step.

Usage: train_step.py [ROUNDS]; train_step.py mkl compares Paddle's MKL with and without AVX2, which it takes on Intel
alone.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import timing

from align.probes.knobs import compute_quickly, cpus
from convert.arrays import Array
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig, get_variant
from reports.data.cifar10 import Cifar10, Origin
from reports.score.parallel import Group
from reports.score.weights import Weights
from reports.train.finetune import finetune
from reports.train.job import Job
from reports.train.recipes import Recipe, recipe_by_name
from reports.train.trainer import Trainer

SMALL = MixerConfig(
    image_size=32, patch_size=4, num_blocks=6, hidden_dim=128, tokens_mlp_dim=64, channels_mlp_dim=512, num_classes=10
)
LARGE = replace(get_variant("s32").config, num_classes=10)
DATA = 2000
"""Number of seeded images to train on."""


def job_of(folder: Path, config: MixerConfig, recipe: Recipe, steps: int) -> Job:
    """Return a fine-tuning job on seeded weights that ends after this many steps and one to warm up."""
    weights = Weights(
        state_dict=convert_state_dict(init_state_dict(config, 0), config).state_dict,
        config=config,
        name="seeded weights",
        sha256=None,
        fingerprint="0" * 64,
        dtype="float32",
        upstream=None,
        known_from="nobody",
    )
    generator = np.random.default_rng(0)
    images = Cifar10(
        images=generator.integers(0, 256, (DATA, 32, 32, 3), dtype=np.uint8),
        labels=generator.integers(0, 10, DATA),
        origin=Origin(
            name="seeded", split="train", version="python", sha256=None, files={}, images_sha256="", canonical=False
        ),
    )
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    return Job(weights=weights, train=images, test=images, recipe=recipe, out=out, stop_after=steps + 1)


def of_finetune(job: Job) -> float:
    """Return the images per second of `finetune`'s steps, without the first one, which warms up."""
    finetune(job)
    lines = [json.loads(line) for line in (job.out / "timing.jsonl").read_text(encoding="utf-8").splitlines()]
    return job.recipe.batch_size * len(lines[1:]) / sum(line["seconds"] for line in lines[1:])


def of_steps(step: Callable[[], None], batch: int, steps: int) -> float:
    """Return the images per second of a loop, after one step that warms up."""
    step()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return batch * steps / (time.perf_counter() - started)


def paddle_step(job: Job, images: Array, labels: Array) -> Callable[[], None]:
    """Return one training step of a plain loop, written as in Paddle's tutorials."""
    import paddle

    from convert.checks.loading import load_into
    from convert.mixer.paddle_mixer import MlpMixer

    recipe = job.recipe
    model = MlpMixer(job.weights.config)
    load_into(model, job.weights.state_dict)
    clip = paddle.nn.ClipGradByGlobalNorm(recipe.clip_norm) if recipe.clip_norm else None
    shared = {"learning_rate": recipe.learning_rate, "parameters": model.parameters(), "grad_clip": clip}
    kinds = {"adam": paddle.optimizer.Adam, "adamw": paddle.optimizer.AdamW}
    optimizer = kinds[recipe.optimizer](**shared)
    loss_of = paddle.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    x, y = paddle.to_tensor(images), paddle.to_tensor(labels)

    def step() -> None:
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        float(loss)

    return step


def torch_step(job: Job, images: Array, labels: Array) -> Callable[[], None]:
    """Return the same step in torch, on timm's model."""
    import torch

    from align.mixer.models import build_timm

    recipe = job.recipe
    model = build_timm(job.weights.config, None, init_state_dict(job.weights.config, 0)).train()
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = kinds[recipe.optimizer](model.parameters(), lr=recipe.learning_rate)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    def step() -> None:
        loss = loss_of(model(x), y)
        loss.backward()
        if recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())

    return step


def ratios_of(folder: Path, name: str, config: MixerConfig, recipe: Recipe, steps: int) -> list[timing.Ratio]:
    """Return the speed of `finetune`'s steps relative to both loops."""
    job = job_of(folder, config, recipe, steps)
    generator, batch = np.random.default_rng(1), recipe.batch_size
    images = generator.standard_normal((batch, 3, config.image_size, config.image_size), dtype=np.float32)
    labels = generator.integers(0, config.num_classes, batch)
    loops = {"a bare Paddle loop": paddle_step, "torch's loop on timm's model": torch_step}
    steps_of = {loop: make(job, images, labels) for loop, make in loops.items()}
    found: dict[str, list[float]] = {"finetune": [], **{loop: [] for loop in loops}}
    runs: dict[str, Callable[[], float]] = {
        "finetune": lambda: of_finetune(job_of(folder, config, recipe, steps)),
        **{loop: partial(of_steps, step, batch, steps) for loop, step in steps_of.items()},
    }
    for number in range(ROUNDS):
        for one in list(runs) if number % 2 else list(reversed(runs)):
            found[one].append(runs[one]())
    targets = {"a bare Paddle loop": "≥ 0.95"}
    return [
        timing.Ratio(
            what=f"finetune, {name}, batch {batch} / {loop}",
            target=targets.get(loop, ""),
            values=timing.over(found["finetune"], found[loop]),
        )
        for loop in loops
    ]


def measure_mkl() -> None:
    """Print the speed of a few steps in this process's environment."""
    recipe = recipe_by_name("small")
    weights = convert_state_dict(init_state_dict(SMALL, 0), SMALL).state_dict
    trainer = Trainer(SMALL, weights, recipe, device="cpu", threads=cpus(), group=Group())
    generator = np.random.default_rng(0)
    images = generator.standard_normal((recipe.batch_size, 3, 32, 32), dtype=np.float32)
    labels = generator.integers(0, 10, recipe.batch_size)
    speed = of_steps(lambda: trainer.step(images, labels, 1e-4, len(labels)), len(labels), 5)
    print(f"MKL_DEBUG_CPU_TYPE {os.environ.get('MKL_DEBUG_CPU_TYPE', 'unset')}: {speed:.0f} images/s")


def in_turn_with_mkl() -> None:
    """Run `measure_mkl` in child processes without and with AVX2 in Paddle's MKL, twice in turn."""
    plain = {name: value for name, value in os.environ.items() if name != "MKL_DEBUG_CPU_TYPE"}
    for environment in (plain, {**plain, "MKL_DEBUG_CPU_TYPE": "5"}) * 2:
        subprocess.run([sys.executable, __file__, "measure-mkl"], check=True, env=environment)


if sys.argv[1:] == ["measure-mkl"]:
    measure_mkl()
elif sys.argv[1:] == ["mkl"]:
    in_turn_with_mkl()
else:
    ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    compute_quickly()
    with tempfile.TemporaryDirectory() as name:
        ratios = ratios_of(Path(name), "a small Mixer at 32 px", SMALL, recipe_by_name("small"), 24)
        ratios += ratios_of(Path(name), "s32 at 224 px", LARGE, recipe_by_name("paddle_reproduction"), 8)
    timing.report(ratios, f"{ROUNDS} alternating rounds")
