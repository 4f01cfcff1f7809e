"""The steps of a rehearsal: command lines, each beside the one of the real run that it stands for. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

UPSTREAM, RUN, BUNDLE = "upstream.safetensors", "run", "bundle"
WEIGHTS, DATA, RECIPE = "made_up_weights.safetensors", "made_up_cifar10.tar.gz", "google_scaled_down.toml"
MANIFEST = ".manifest.json"
FIGURE = "google_b16_in21k"
LIMIT = 96
"""Test images to evaluate: fewer than the 10,000 of the canonical split, so that no result is comparable."""
NOT_COMPARABLE = 1
"""Exit code of the verdict `not comparable`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalInputs:
    """A rehearsal's inputs as its command lines name them: weights in timm's layout, an archive, and the device."""

    checkpoint: str = WEIGHTS
    data: str = DATA
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command line, and what the real run calls in its place.

    leaves: files or folders by which a finished step is recognised. exit_code: the one that means success. resumable: a
    file whose presence means that the step goes on with `--resume`.
    """

    name: str
    command: tuple[str, ...]
    leaves: tuple[str, ...]
    for_real: str
    exit_code: int = 0
    resumable: str | None = None

    @property
    def line(self) -> str:
        """The command as it is typed."""
        return shlex.join(self.command)


def steps_of(inputs: RehearsalInputs) -> tuple[Step, ...]:
    """Return the steps, in order; their paths are relative to the rehearsal's folder."""
    return (_convert(inputs), _finetune(inputs), _evaluate(inputs), _audit(inputs), _verify())


def _convert(inputs: RehearsalInputs) -> Step:
    return Step(
        name="convert",
        command=_line(f"mixer-convert --src timm --checkpoint {{}} --dst timm --out {UPSTREAM}", inputs.checkpoint),
        leaves=(UPSTREAM, UPSTREAM + MANIFEST),
        for_real="mixer-convert --src timm --variant b16_in21k --dst timm --out b16_in21k.safetensors",
    )


def _finetune(inputs: RehearsalInputs) -> Step:
    made = (
        "final.pdparams",
        "final.pdparams" + MANIFEST,
        "log.jsonl",
        "curves.png",
        "evaluation.json",
        "predictions.npz",
    )
    line = f"mixer-report finetune --weights {UPSTREAM} --data {{}} --recipe {RECIPE} --device {{}} --out {RUN}"
    return Step(
        name="finetune",
        command=_line(f"{line} --checkpoint-every 10", inputs.data, inputs.device),
        leaves=tuple(f"{RUN}/{name}" for name in made),
        for_real="mixer-report finetune --variant b16_in21k --weights b16_in21k.safetensors "
        "--data cifar-10-python.tar.gz --recipe google --device gpu --out run",
        resumable=f"{RUN}/run.json",
    )


def _evaluate(inputs: RehearsalInputs) -> Step:
    line = f"mixer-report evaluate --weights {RUN}/final.pdparams --data {{}} --figure {FIGURE} --limit {LIMIT}"
    return Step(
        name="evaluate",
        command=_line(f"{line} --device {{}} --predictions predictions.npz", inputs.data, inputs.device),
        leaves=("predictions.npz",),
        for_real="mixer-report evaluate --variant b16_in21k --weights run/final.pdparams "
        "--data cifar-10-python.tar.gz --device gpu --predictions predictions.npz",
        exit_code=NOT_COMPARABLE,
    )


def _audit(inputs: RehearsalInputs) -> Step:
    weights = f"--checkpoint {UPSTREAM} --weights {RUN}/final.pdparams --data {{}} --figure {FIGURE} --limit {LIMIT}"
    attached = f"--attach {RUN}/log.jsonl --attach {RUN}/curves.png"
    return Step(
        name="audit",
        command=_line(
            f"mixer-report audit {weights} --device {{}} {attached} --out {BUNDLE}", inputs.data, inputs.device
        ),
        leaves=(BUNDLE,),
        for_real="mixer-report audit --variant b16_in21k --checkpoint b16_in21k.safetensors "
        "--weights run/final.pdparams --data cifar-10-python.tar.gz "
        "--attach run/log.jsonl --attach run/curves.png --out audit-b16_in21k",
        exit_code=NOT_COMPARABLE,
    )


def _verify() -> Step:
    return Step(
        name="verify",
        command=("mixer-report", "verify", BUNDLE),
        leaves=(),
        for_real="mixer-report verify audit-b16_in21k",
    )


def _line(template: str, *values: str) -> tuple[str, ...]:
    """Return the words of a command line, each {} replaced by a value, whatever characters that has."""
    remaining = iter(values)
    return tuple(next(remaining) if word == "{}" else word for word in template.split())
