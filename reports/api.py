"""What `import reports` offers: accuracies measured, audited and verified, each file named by its path."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

if TYPE_CHECKING:
    from reports.jobs import Showing
    from reports.render.report import AuditReport
    from reports.score.evaluate import Evaluation
    from reports.sign.signature import Verified

Name = str | PathLike[str]


class Choices(TypedDict, total=False):
    """What the options of these names choose, of the weights, of the images and of how they are run."""

    variant: str | None
    src: str | None
    weights_key: str | None
    ema: bool | None
    gelu: Literal["erf", "tanh"] | None
    layer_norm_eps: float | None
    limit: int | None
    figure: str | None
    preprocess: Literal["published", "variant", "imagenet"] | None
    no_resize: bool
    accept_preprocessing: bool
    engine: Literal["auto", "inference", "eager"]
    device: str
    batch_size: int


def evaluate(
    weights: Name,
    data: Name,
    *,
    against: Name | None = None,
    against_key: str | None = None,
    workers: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    against_float32: bool = False,
    progress: bool = True,
    **choices: Unpack[Choices],
) -> Evaluation:
    """Return how many of CIFAR-10's test images a fine-tuned model gets right, held against the published row.

    The result has `accuracy` (`correct` and `total`: images; `percent`; `wilson`: a 95 % interval, in percent),
    `finding` (`verdict`, `passed`, `sentence`), `predictions`, and `as_data()`, the JSON of `mixer-report evaluate`.

    Args:
        weights: Fine-tuned weights, ten classes, in any format of `mixer-convert`.
        data: CIFAR-10, the archive (.tar.gz) or its folder, either version.
        against: A checkpoint; timm runs with it on the same images too.
        against_key: Which of its sets of weights.
        workers: Processes that make images. Default: the cores less one, at most 8; on a CPU 0.
        precision: Of the predictor.
        against_float32: With bfloat16: run float32 on the same images too; `in_float32` has where they disagree.
        progress: Show how far it is, and the time left, in a notebook or a terminal; elsewhere nothing is shown anyway.
        choices: variant, src, weights_key, ema, gelu, layer_norm_eps, limit, figure, preprocess, no_resize,
            accept_preprocessing, engine, device and batch_size, as the command's options.

    Raises:
        BadInput: No such weights or images.
        UsageProblem: A choice that there is not.
        MixerConvertError: The predictor does not agree with the model that it was made of (`exit_code` 1).

    Example:
        >>> found = reports.evaluate("my_mixer.pdparams", "cifar10.tar.gz", limit=20)
        >>> found.accuracy.total, found.finding.verdict
        (20, 'not comparable')
    """
    from convert.checks.installed import require
    from reports.jobs import evaluated
    from reports.score.parallel import Group

    require("paddle", "PIL", "scipy")
    return evaluated(
        **_given(weights, data, choices),
        against=None if against is None else Path(against),
        against_key=against_key,
        workers=workers,
        precision=precision,
        beside_float32=against_float32,
        group=Group(),
        shown=_showing(progress).evaluating,
    )


def write_audit(
    weights: Name,
    checkpoint: Name,
    data: Name,
    out: Name,
    *,
    checkpoint_key: str | None = None,
    checkpoint_src: str | None = None,
    timm: bool = True,
    accept_rounding: bool = False,
    attach: Sequence[Name] = (),
    sign: Name | None = None,
    force: bool = False,
    progress: bool = True,
    **choices: Unpack[Choices],
) -> AuditReport:
    """Check both ports, measure the accuracy, hold it against the published row; write and return what was found.

    The result has `verdict`, `passed`, `sentence`, `accuracy` and `alignments`; the bundle has the evidence.

    Args:
        weights: Fine-tuned weights, ten classes, in any format of `mixer-convert`.
        checkpoint: The upstream's.
        data: CIFAR-10, the archive (.tar.gz) or its folder, either version.
        out: The folder of the bundle to write.
        checkpoint_key: Which of its sets of weights.
        checkpoint_src: Its layout. Default: told by its names.
        timm: Run timm on the images too.
        accept_rounding: Compare accuracies on the gates' verdict `rounding` too.
        attach: Further files, such as a training log.
        sign: An SSH key.
        force: Replace an existing bundle.
        progress: As of `evaluate`.
        choices: As of `evaluate`.

    Raises:
        BadInput: No such weights or images, or the two are not of one model.
        UsageProblem: A choice that there is not, or the folder is there already.
        IOProblem: The disk refused.

    Example:
        >>> files = ("my_mixer.pdparams", "my_mixer.safetensors", "cifar10.tar.gz")
        >>> report = reports.write_audit(*files, "my_audit", limit=20)
        >>> report.verdict, report.accuracy.total
        ('not comparable', 20)
        >>> bool(reports.verify_bundle("my_audit"))
        True
    """
    from convert.checks.installed import require
    from reports.jobs import Target, audited_to

    require("paddle", "torch", "timm", "PIL", "pydantic", "scipy")
    target = Target(out=Path(out), force=force, sign=None if sign is None else Path(sign))
    report, _ = audited_to(
        target,
        **_given(weights, data, choices),
        checkpoint=Path(checkpoint),
        checkpoint_key=checkpoint_key,
        checkpoint_src=checkpoint_src,
        skip_timm=not timm,
        accept_rounding=accept_rounding,
        attach=tuple(map(Path, attach)),
        showing=_showing(progress),
        command_line=[],
    )
    return report


def verify_bundle(bundle: Name, *, signer: Name | None = None) -> Verified:
    """Return an audit's bundle once every hash, every statistic and all that follows from them is checked again.

    The result has `report` (`verdict`, `passed`, `sentence`, `accuracy`) and `signature` (`key`, `identity`, `trusted`,
    `sentence`); it is true unless another signed than `signer`. Whether the accuracy passed is `report.passed`.

    Args:
        bundle: The folder.
        signer: Who has to have signed: a file with a public key, or with allowed signers.

    Raises:
        IOProblem: There is no such folder.
        BadInput: It is no bundle, or nobody signed it and `signer` is given.
        IntegrityProblem: A file was changed, removed or added, or says what does not follow from the others.

    Example:
        >>> found = reports.verify_bundle("bundle")
        >>> bool(found), found.report.verdict, found.signature.key is None
        (True, 'not comparable', True)
    """
    from convert.checks.installed import require
    from reports.sign.signature import verified

    require("pydantic", "scipy")
    return verified(Path(bundle), None if signer is None else Path(signer))


def _given(weights: Name, data: Name, choices: Choices) -> dict[str, Any]:
    """Return the options of a command that these choices stand for."""
    from reports.score.devices import check_device

    if unknown := choices.keys() - Choices.__annotations__.keys():
        raise TypeError(f"unknown: {', '.join(sorted(unknown))}")
    usual: dict[str, Any] = dict.fromkeys(Choices.__annotations__)
    usual |= {"no_resize": False, "accept_preprocessing": False, "engine": "auto", "device": "cpu", "batch_size": 16}
    check_device(choices.get("device", "cpu"))
    return {**usual, **choices, "weights": Path(weights), "data": Path(data)}


def _showing(progress: bool) -> Showing:
    from align.commands.progress import aligning
    from convert.commands.progress import in_notebook, on_terminal
    from reports.commands.progress import evaluating
    from reports.jobs import Showing

    if progress and (in_notebook() or on_terminal()):
        return Showing(say=lambda _: None, aligning=aligning, evaluating=evaluating)
    nothing = contextlib.nullcontext
    return Showing(
        say=lambda _: None,
        aligning=lambda *_: nothing(lambda _: None),
        evaluating=lambda _: nothing(lambda *_: None),
    )
