"""What `import convert` offers: convert, inspect, compare and load checkpoints, each named by its path."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

if TYPE_CHECKING:
    from convert.arrays import Array
    from convert.checks.integrity import Integrity
    from convert.checks.verify import Verification
    from convert.request import Request

Name = str | PathLike[str]


class Stated(TypedDict, total=False):
    """What the caller states about a checkpoint; each key means the same as the command's option of that name."""

    src: str | None
    weights_key: str | None
    ema: bool | None
    gelu: Literal["erf", "tanh"] | None
    layer_norm_eps: float | None


def convert_file(
    checkpoint: Name | None,
    out: Name | None = None,
    *,
    variant: str | None = None,
    dst: Literal["paddle", "paddlevit", "timm", "torch"] | None = None,
    pairing: Name | None = None,
    num_classes: int | None = None,
    dtype: str | None = None,
    force: bool = False,
    progress: bool = True,
    **said: Unpack[Stated],
) -> dict[str, Any]:
    """Convert a checkpoint to a file with a manifest beside it, as `mixer-convert` does; return the manifest.

    Both files appear complete or not at all; every tensor is read back and compared first.

    Args:
        checkpoint: A file in any format that `mixer-convert` reads, or a folder; None: the variant's published weights.
        out: A .pdparams or .safetensors file. Default: in the current folder, named after the variant
            (`<architecture>.<tag>.pdparams`) or else the checkpoint; .safetensors if dst is timm or torch.
        variant: A name from `mixer-convert --list`. Default: read from the checkpoint's shapes.
        dst: Layout of the output. Default: paddle; with a pairing, the one whose names the checkpoint does not have.
        pairing: A TOML file whose table [weights] says what becomes of each tensor, for a checkpoint of any model.
        num_classes: Number of classes of a fresh random head; a head that has that many already is kept.
        dtype: float32, float16 or bfloat16. Default: that of the weights.
        force: Replace existing files.
        progress: Show progress in a notebook or a terminal; elsewhere nothing is shown in any case.
        said: src, weights_key, ema, gelu and layer_norm_eps, as the command's options.

    Raises:
        BadInput: The input is no checkpoint of a known kind, is damaged, or is not safe to read.
        UsageProblem: There is no such choice, or the output exists already.
        IOProblem: The disk or the hub refused.
        IntegrityProblem: The checkpoint changed while it was read, or the disk does not hold what was written.

    Example:
        >>> manifest = convert.convert_file("my_mixer.safetensors", "my_mixer.pdparams")
        >>> manifest["output"]["path"], manifest["config"]["num_classes"]
        ('my_mixer.pdparams', 10)
    """
    from convert.job import convert_checkpoint
    from convert.request import Adaptation

    request = _request(
        "convert_file",
        said,
        variant=variant,
        checkpoint=_path(checkpoint),
        dst=dst,
        pairing=_path(pairing),
        adaptation=Adaptation(num_classes=num_classes, dtype=dtype),
    )
    with _shown(progress):
        return convert_checkpoint(request, _path(out), force=force, command_line=[])


def load_paddle(
    variant: str | None = None,
    *,
    checkpoint: Name | None = None,
    num_classes: int | None = None,
    dtype: str | None = None,
    progress: bool = True,
    **said: Unpack[Stated],
) -> Any:
    """Return a ready Paddle model, a `paddle.nn.Layer`, in evaluation mode, with the weights converted in memory.

    It takes images (batch, channels, height, width) and returns logits (batch, classes). What the file and its manifest
    say of the config is followed; a warning says what had to be assumed.

    Args:
        variant: A name from `mixer-convert --list`. Default: read from the checkpoint's shapes.
        checkpoint: A local file, or a folder with one. Default: the variant's published weights, from the hub.
        num_classes: Number of classes of a fresh random head; a head that has that many already is kept.
        dtype: float32, float16 or bfloat16. Default: that of the weights.
        progress: Show a download's progress in a notebook or a terminal; elsewhere nothing is shown in any case.
        said: src (timm, google or paddle), weights_key and ema (which of several sets of weights), gelu (erf or tanh)
            and layer_norm_eps, as the command's options.

    Raises:
        MixerConvertError: As `mixer-convert` reports it; the text says what to do.

    Example:
        >>> import paddle
        >>> model = convert.load_paddle(checkpoint="my_mixer.pdparams")
        >>> list(model(paddle.zeros([2, 3, 32, 32])).shape)
        [2, 10]
    """
    from convert.checks.installed import require
    from convert.job import check_and_map, choose_source
    from convert.request import Adaptation

    require("paddle")
    adaptation = Adaptation(num_classes=num_classes, dtype=dtype)
    request = _request("load_paddle", said, variant=variant, checkpoint=_path(checkpoint), adaptation=adaptation)
    with _shown(progress):
        port = check_and_map(choose_source(request), request)
    if port.assumed:
        warnings.warn(port.assumed, stacklevel=2)
    return port.source.family.build(port.config, port.conversion.state_dict)


def load_state_dict(
    checkpoint: Name, *, dst: Literal["paddle", "paddlevit", "timm"] | None = None, **said: Unpack[Stated]
) -> dict[str, Array]:
    """Return the weights of a checkpoint as NumPy arrays by name; no framework is imported, nothing in it executed.

    Args:
        checkpoint: A file in any format that `mixer-convert` reads, or a folder with one.
        dst: Layout to return a vision MLP in: its names, and Linear weights (in, out) for Paddle, (out, in) for timm.
            Default: the checkpoint's own, for any model.
        said: src, weights_key, ema, gelu and layer_norm_eps, as the command's options.

    Raises:
        BadInput: The input is no checkpoint of a known kind, is damaged, or is not safe to read.
        UsageProblem: It holds several sets of weights, and none is named.

    Example:
        >>> convert.load_state_dict("my_mixer.safetensors")["head.weight"].shape
        (10, 24)
        >>> convert.load_state_dict("my_mixer.safetensors", dst="paddle")["head.weight"].shape
        (24, 10)
    """
    import numpy as np

    from convert.job import check_and_map, choose_source

    request = _request("load_state_dict", said, checkpoint=Path(checkpoint), dst=dst)
    source = choose_source(request)
    weights = source.state_dict if dst is None else check_and_map(source, request).conversion.state_dict
    return {key: np.array(array, order="C") for key, array in weights.items()}


def inspect_file(checkpoint: Name, *, weights_key: str | None = None, ema: bool | None = None) -> dict[str, Any]:
    """Return what a checkpoint holds, as `mixer-convert inspect --json` writes it.

    Args:
        checkpoint: A file in any format that `mixer-convert` reads, or a folder with one.
        weights_key: Which set of weights, where it holds several.
        ema: Whether the averaged or the raw weights are meant, where their names tell.

    Raises:
        BadInput: It is no checkpoint, is damaged, or is not safe to read.

    Example:
        >>> found = convert.inspect_file("my_mixer.safetensors")
        >>> found["layouts"], len(found["tensors"]), found["parameters"]
        (['timm'], 54, 54050)
    """
    from convert.checks.inspection import inspect_file as run
    from convert.files.sets import Selection

    return run(Path(checkpoint), Selection(key=weights_key, ema=ema))


def verify_file(path: Name, manifest: Name | None = None) -> Integrity:
    """Return whether a file is still the one its manifest describes, by the SHA-256 of its bytes and of every tensor.

    The result has `intact`; `changed`, `missing` and `extra` (names of tensors), `changed_files`, and `sentences()`.

    Args:
        path: The output of a conversion or, where the manifest is named, its source.
        manifest: Default: the one beside the file.

    Raises:
        IOProblem: There is no manifest.
        BadInput: The manifest is damaged, or the file cannot be read though its bytes have not changed.
        IntegrityProblem: The file changed while it was read.

    Example:
        >>> convert.verify_file("my_mixer.pdparams").intact
        True
    """
    from convert.checks.integrity import verify_file as run

    return run(Path(path), _path(manifest))


def verify_files(a: Name, b: Name, *, weights_key: str | None = None, weights_key_b: str | None = None) -> Verification:
    """Return whether two checkpoints hold the same tensors, bit for bit, whatever their formats and layouts.

    The result has `equal`; `only_in_a` and `only_in_b` (names of tensors), `unequal` (a sentence for each name), and
    `sentences(a, b)`.

    Args:
        a: A file in any format that `mixer-convert` reads, or a folder with one.
        b: The checkpoint to compare it with.
        weights_key: Which set of weights of a, where it holds several.
        weights_key_b: Which set of weights of b.

    Raises:
        BadInput: One is no checkpoint, is damaged, or is not safe to read.
        IntegrityProblem: One changed while it was read.

    Example:
        >>> convert.verify_files("my_mixer.safetensors", "my_mixer.pdparams").equal
        True
    """
    from convert.checks.verify import selections_of
    from convert.checks.verify import verify_files as run

    return run(Path(a), Path(b), selections_of(weights_key, weights_key_b))


@contextlib.contextmanager
def _shown(progress: bool) -> Iterator[None]:
    from convert.commands.progress import display
    from convert.disk.underway import telling

    with display() if progress else contextlib.nullcontext(lambda *_: None) as update, telling(update):
        yield


def _path(name: Name | None) -> Path | None:
    return None if name is None else Path(name)


def _request(function: str, said: Stated, **given: Any) -> Request:
    from convert.job import request_of

    if unknown := said.keys() - Stated.__annotations__.keys():
        raise TypeError(f"{function}: unknown {', '.join(sorted(unknown))}")
    return request_of(**given, **said)
