"""What a rehearsal makes up: a seeded small Mixer, images in the form of CIFAR-10's archive, a recipe scaled down."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from convert.arrays import Array, StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerConfig
from reports.data.cifar10 import CLASSES, META, PIXELS, SIZE, STEMS
from reports.rehearsal.python2 import pickled
from reports.train.recipes import NOT_SOURCED, Recipe, recipe_by_name

FOLDER = "cifar-10-batches-py"
SEED = 0
CONFIG = MixerConfig(
    image_size=48, patch_size=8, num_blocks=2, hidden_dim=64, tokens_mlp_dim=32, channels_mlp_dim=256, num_classes=21
)
"""A Mixer that trains in seconds. As with the real upstream, images are enlarged and the head is not CIFAR-10's."""
PER_BATCH = 100
"""Images of each of the six batches; the canonical ones have 10,000."""
NOISE = 50
"""Standard deviation of the noise, in grey levels."""
SCALED = {"steps": 60, "warmup_steps": 6, "batch_size": 32, "micro_batch": 8}
"""The recipe's values that are scaled down, to take a few seconds; a batch still takes several forwards."""


def weights() -> StateDict:
    """Return the seeded weights of CONFIG, in timm's layout."""
    return init_state_dict(CONFIG, SEED)


def images(count: int, seed: int) -> tuple[Array, list[int]]:
    """Return rows (count, 3072) uint8 and labels; a class is a colour and a width of stripes, so it can be learned."""
    generator = np.random.default_rng([SEED, seed])
    labels = generator.integers(0, len(CLASSES), count)
    colours = np.random.default_rng(SEED).uniform(100, 155, (len(CLASSES), 3))
    phases = generator.uniform(0, 2 * np.pi, count)
    stripes = 40 * np.sin(np.arange(SIZE) * (labels[:, None] + 1) * np.pi / SIZE + phases[:, None])
    planes = colours[labels][:, :, None, None] + stripes[:, None, None, :] + np.zeros((1, 1, SIZE, 1))
    noisy = planes + generator.normal(0, NOISE, planes.shape)
    return noisy.clip(0, 255).astype(np.uint8).reshape(count, PIXELS), labels.tolist()


def archive(per_batch: int = PER_BATCH) -> bytes:
    """Return a .tar.gz with files and pickles like those of CIFAR-10's archive, the same bytes every time."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=1, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, content in _files(per_batch):
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _files(per_batch: int) -> Iterator[tuple[str, bytes]]:
    yield META, pickled({"num_cases_per_batch": per_batch, "label_names": list(CLASSES), "num_vis": PIXELS})
    for split, word in (("train", "training"), ("test", "testing")):
        stems = STEMS[split]  # type: ignore[index]  # both are splits
        for number, stem in enumerate(stems, 1):
            rows, labels = images(per_batch, number if split == "train" else 0)
            names = [f"{CLASSES[label]}_made_up_{index}.png" for index, label in enumerate(labels)]
            said = f"{word} batch {number} of {len(stems)}"
            yield stem, pickled({"batch_label": said, "labels": labels, "data": rows, "filenames": names})


def scaled_down() -> Recipe:
    """Return Google's recipe with fewer and smaller steps; the training is otherwise unchanged."""
    google = recipe_by_name("google")
    sources = {**google.sources, **dict.fromkeys(SCALED, "scaled down for a rehearsal")}
    return replace(google, name="google_scaled_down", sources=sources, remark="for a rehearsal", **SCALED)  # type: ignore[arg-type]


def as_toml(recipe: Recipe) -> str:
    """Return a recipe as the content of a file that `finetune --recipe` reads."""
    given = {name: value for name, value in recipe.as_data().items() if value is not None}
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
    sources = [f"{name} = {json.dumps(recipe.sources[name])}" for name in given if name not in NOT_SOURCED]
    return "\n".join(["[[recipe]]", *lines, "", "[recipe.sources]", *sources, ""])
