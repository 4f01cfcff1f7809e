"""What a fine-tuning is asked to do: weights, images, recipe, folder. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from reports.data.cifar10 import Cifar10
from reports.data.making import Making
from reports.data.preprocess import Preprocessing
from reports.score.weights import Weights
from reports.train.checkpoints import MINUTES
from reports.train.recipes import Recipe


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """What to fine-tune, on what, how, and where to.

    threads: the CPU's threads for matrix products (None: all, shared among the processes); a resumed run keeps its own.
    workers: processes that make images (0: a thread does); no bit of the result depends on them.
    checkpoint_every: steps from one checkpoint to the next; None: by the clock, every checkpoint_minutes.
    stop_after: the step after which to end, as a signal would end the run.
    """

    weights: Weights
    train: Cifar10
    test: Cifar10
    recipe: Recipe
    out: Path
    resume: bool = False
    device: str = "cpu"
    threads: int | None = None
    workers: int = 0
    checkpoint_every: int | None = None
    checkpoint_minutes: float = MINUTES
    stop_after: int | None = None
    command_line: list[str] = field(default_factory=list)

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to the images."""
        return self.recipe.preprocessing(self.weights.config.image_size)

    @property
    def images(self) -> int:
        """How many of the training images are used."""
        return self.recipe.images_used(len(self.train.labels))

    @property
    def length(self) -> tuple[int, int]:
        """How many steps there are, and how many images they see."""
        return self.recipe.length(self.images)

    def making(self) -> Making:
        """Return how to make the batches, the index of each being its step, from 0."""
        recipe, preprocessing = self.recipe, self.preprocessing
        return Making(
            function="reports.train.augment:step_maker",
            settings={
                "preprocessing": asdict(preprocessing),
                "augmentation": recipe.augmentation,
                "seed": recipe.seed,
                "sizes": [recipe.batch_size, self.images, self.length[1]],
            },
            shape=(recipe.batch_size, 3, preprocessing.image_size, preprocessing.image_size),
        )
