"""The functions of `import reports`: measure, audit and verify an accuracy, with every file named by its path."""

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
    """Keyword arguments that `evaluate` and `write_audit` share, each with the meaning of the command's option."""

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
    """Return how many of CIFAR-10's test images a fine-tuned model gets right, compared with the published row.

    The result has `accuracy` (`correct` and `total`: images; `percent`; `wilson`: a 95 % interval, in percent),
    `finding` (`verdict`, `passed`, `sentence`), `predictions`, and `as_data()`, the JSON of `mixer-report evaluate`.

    Args:
        weights: Fine-tuned weights with ten classes, in any format that `mixer-convert` reads.
        data: CIFAR-10, the archive (.tar.gz) or its folder, either version.
        against: A checkpoint for timm to run on the same images too.
        against_key: Which set of weights in `against`, if it holds several.
        workers: Processes that make images. Default: the cores less one, at most 8; on a CPU 0.
        precision: Precision of the predictor.
        against_float32: With bfloat16: also run float32 on the same images; `in_float32` says where they disagree.
        progress: Show progress and the time left in a notebook or a terminal; elsewhere nothing is ever shown.
        choices: variant, src, weights_key, ema, gelu, layer_norm_eps, limit, figure, preprocess, no_resize,
            accept_preprocessing, engine, device and batch_size, with the meaning of the command's options.

    Raises:
        BadInput: The weights or the images are not what they have to be.
        UsageProblem: An option has an unknown value, or options do not go together.
        MixerConvertError: The predictor does not agree with the model it was made from (`exit_code` 1).

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
    """Check both ports, measure the accuracy against the published row, write the bundle and return its report.

    The result has `verdict`, `passed`, `sentence`, `accuracy` and `alignments`; the bundle has the evidence.

    Args:
        weights: Fine-tuned weights with ten classes, in any format that `mixer-convert` reads.
        checkpoint: The upstream's checkpoint.
        data: CIFAR-10, the archive (.tar.gz) or its folder, either version.
        out: The folder of the bundle to write.
        checkpoint_key: Which set of weights in `checkpoint`, if it holds several.
        checkpoint_src: The checkpoint's layout. Default: detected from its key names.
        timm: Also run timm on the images.
        accept_rounding: Compare accuracies even if the gates' verdict is `rounding`.
        attach: Further files to put into the bundle, such as a training log.
        sign: An SSH key to sign the bundle with.
        force: Replace an existing bundle.
        progress: As in `evaluate`.
        choices: As in `evaluate`.

    Raises:
        BadInput: The weights or the images are not what they have to be, or the two files are not of one model.
        UsageProblem: An option has an unknown value, options do not go together, or the folder already exists.
        IOProblem: A file or folder cannot be read or written.

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
    """Return an audit's bundle after rechecking every hash, every statistic and everything that follows from them.

    The result has `report` (`verdict`, `passed`, `sentence`, `accuracy`) and `signature` (`key`, `identity`, `trusted`,
    `sentence`); it is true unless somebody other than `signer` signed. `report.passed` says if the accuracy passed.

    Args:
        bundle: The bundle's folder.
        signer: Who must have signed: a file with a public key, or with allowed signers.

    Raises:
        IOProblem: There is no such folder.
        BadInput: It is not a bundle, or `signer` is given and nobody signed it.
        IntegrityProblem: A file was changed, removed or added, or does not follow from the others.

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
    """Return the command's options that these choices stand for, with defaults for those not given."""
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
