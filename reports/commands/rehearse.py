"""mixer-report rehearse: the reproduction of a published figure, step by step, on a small scale and offline."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.commands.command_line import OneSentence, json_option, write_json
from convert.commands.options import FILE

if TYPE_CHECKING:
    from reports.rehearsal.estimate import Estimate
    from reports.rehearsal.record import Record
    from reports.rehearsal.steps import RehearsalInputs, Step

Say = Callable[[str], None]
SCHEMA = "mixer-report/rehearsal/1"
SENTENCE = (
    "This was a rehearsal: every step works here. It is no evidence about the published 96.72 and 96.82, which these "
    "weights, images and steps have nothing to do with."
)
DEVICES = (1, 2, 4, 8)
RECIPES = ("google", "paddle_reproduction")


@click.command(cls=OneSentence, needs=("paddle", "torch", "timm", "PIL", "pydantic", "scipy", "matplotlib"))
@click.option("--out", type=FILE, required=True, metavar="DIR", help="A folder for it; has to be new or empty.")
@click.option("--resume", is_flag=True, help="Go on with the rehearsal in --out: finished steps are not repeated.")
@click.option("--checkpoint", type=FILE, help="A small Mixer in timm's layout. Default: a seeded one, made up.")
@click.option("--data", type=FILE, help="CIFAR-10's archive or its folder. Default: images that are made up.")
@click.option(
    "--images-per-second",
    type=click.FloatRange(min=0, min_open=True),
    help="Speed of training Mixer-B/16 at 224 px on one device, for the estimates. Default: measured here.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, gpu or gpu:N.")
@json_option
def rehearse(
    *,
    out: Path,
    resume: bool,
    checkpoint: Path | None,
    data: Path | None,
    images_per_second: float | None,
    device: str,
    json_target: str | None,
) -> None:
    """Rehearse the reproduction of 96.72 and 96.82: convert, finetune, evaluate, audit and verify, scaled down.

    Each step is the command that the real run calls, printed as it is typed. Then comes what the real run takes.

    \b
    Exit codes: 0 every step went as it should, else that of the step.
    SIGTERM and SIGINT end it with 143 and 130; --resume goes on.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    from reports.rehearsal.record import Record, locked
    from reports.rehearsal.run import rehearse as run
    from reports.rehearsal.steps import steps_of

    say: Say = _to_stderr if json_target == "-" else click.echo
    inputs, record = _inputs(checkpoint, data, device), Record(out)
    asked = _asked(checkpoint, data, device)
    (record.resume if resume else record.start)(asked)
    steps = steps_of(inputs)
    with locked(out) as lock:
        made_up = _make_up(record, checkpoint, data, say)
        say(f"$ {shlex.join(['cd', str(out)])}")
        report = run(record, steps, lock, say=say, output=sys.stderr if json_target == "-" else None)
    speed, origin = _speed(images_per_second, device)
    estimates = [_estimate(name, speed, devices) for name in RECIPES for devices in DEVICES]
    _conclude(report, estimates, origin, say)
    if json_target:
        result = {"schema": SCHEMA, "sentence": SENTENCE, "made_up": made_up, "images_per_second": origin}
        write_json({**result, **_result(steps, report, estimates)}, json_target)


def _inputs(checkpoint: Path | None, data: Path | None, device: str) -> RehearsalInputs:
    """Return the inputs as the steps name them: by absolute paths, since the steps run in another folder."""
    from reports.rehearsal.steps import RehearsalInputs

    given = {"checkpoint": checkpoint, "data": data}
    return RehearsalInputs(**{name: str(path.resolve()) for name, path in given.items() if path}, device=device)


def _asked(checkpoint: Path | None, data: Path | None, device: str) -> dict[str, Any]:
    """Return what has to be the same for a rehearsal to be resumed: the device, and each input's path and hash."""
    from convert.disk.hashing import file_sha256
    from convert.errors import IOProblem

    asked: dict[str, Any] = {"device": device}
    for name, path in (("checkpoint", checkpoint), ("data", data)):
        if path is not None and not path.exists():
            raise IOProblem(f"{path}: there is no such file or folder. Check --{name}.")
        asked[name] = path and [str(path.resolve()), file_sha256(path) if path.is_file() else None]
    return asked


def _make_up(record: Record, checkpoint: Path | None, data: Path | None, say: Say) -> list[str]:
    """Write the scaled-down recipe and the inputs that were not given, say so, and return those inputs' names."""
    from reports.rehearsal import made_up
    from reports.rehearsal.steps import DATA, RECIPE, WEIGHTS

    recipe = made_up.scaled_down()
    say("A rehearsal, offline: nothing is fetched, neither the published weights nor the canonical archive.")
    say(f"scaled down: {RECIPE} is the recipe google with {recipe.steps} steps of {recipe.batch_size} images.")
    record.put(RECIPE, made_up.as_toml(recipe).encode())
    if checkpoint is None:
        say(f"made up: {WEIGHTS}, a small Mixer of seeded random weights. --checkpoint takes another.")
        record.put_weights(WEIGHTS, made_up.weights())
    if data is None:
        count = 6 * made_up.PER_BATCH
        say(f"made up: {DATA}, {count} images of stripes in the form of CIFAR-10's archive. --data takes another.")
        record.put(DATA, made_up.archive())
    return [name for name, given in ((WEIGHTS, checkpoint), (DATA, data)) if given is None]


def _speed(given: float | None, device: str) -> tuple[float, str]:
    """Return the images per second, and where that figure comes from."""
    from reports.rehearsal.estimate import real_config
    from reports.rehearsal.throughput import images_per_second
    from reports.train.recipes import recipe_by_name

    if given is not None:
        return given, "given"
    speed, count = images_per_second(recipe_by_name(RECIPES[0]), real_config(), device)
    return speed, f"measured here, on {device}, in steps of {count} images"


def _estimate(recipe: str, speed: float, devices: int) -> Estimate:
    from reports.rehearsal.estimate import estimate, real_config
    from reports.train.recipes import recipe_by_name

    return estimate(recipe_by_name(recipe), real_config(), speed, devices)


def _conclude(report: dict[str, Any], estimates: list[Estimate], origin: str, say: Say) -> None:
    from reports.rehearsal.estimate import lines

    say("\nWhat the real run takes to fine-tune Mixer-B/16 at 224 px and to evaluate it once; the audit comes on top:")
    for line in lines(estimates):
        say(line)
    speed = estimates[0].images_per_second
    say(f"time    derived from {speed:.3g} images/s of one device ({origin}); a lower bound for several")
    say("memory  of each device, in float32, derived from the model's sizes; not measured")
    say("disk    derived from the files' sizes; not measured")
    say(f"\n{report['sentence']}")
    say("In another run the bundle differs only in how fast the engine was, and in what is derived from that.")
    say(SENTENCE)


def _result(steps: tuple[Step, ...], report: dict[str, Any], estimates: list[Estimate]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "steps": [{"name": step.name, "command": step.command, "for_real": step.for_real} for step in steps],
        "verdict": report["verdict"],
        "accuracy": report["accuracy"],
        "estimates": [asdict(one) for one in estimates],
    }


def _to_stderr(text: str) -> None:
    click.echo(text, err=True)
