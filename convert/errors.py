"""The domain's errors. Each builds its own sentence and carries the exit code of the command that hits it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

LISTED = 8
"""Number of names that a sentence lists before it only counts the rest."""
SHOWN = 300
"""Number of characters of a file's own text that a sentence shows."""


class MixerConvertError(Exception):
    """Anything a user can cause and mend. The text is one sentence or two: what is wrong, then what to do.

    All errors of the three packages derive from this class; `exit_code` is that of a command that hits it.

    Example:
        >>> try:
        ...     convert.convert_file("my_mixer.safetensors", "out.pt")
        ... except convert.MixerConvertError as error:
        ...     print(error.exit_code, error)
        2 out.pt: cannot write .pt. Use .pdparams or .safetensors.
    """

    exit_code: ClassVar[int] = 3


class UsageProblem(MixerConvertError):
    """A command or function was called in a way that cannot be carried out (exit 2).

    Example:
        >>> try:
        ...     convert.load_paddle("s32", src="foo")
        ... except convert.UsageProblem as error:
        ...     print(error)
        src foo: no such source. Known: timm, google, paddle.
    """

    exit_code = 2


class BadInput(MixerConvertError):
    """A file or a state dict is not what it has to be, or is not safe to read (exit 3).

    Example:
        >>> try:
        ...     convert.inspect_file("README.md")
        ... except convert.BadInput as error:
        ...     print(error.exit_code)
        3
    """

    exit_code = 3


class IOProblem(MixerConvertError):
    """A disk, a folder or the network refused (exit 4); for a missing file, Python raises its own OSError.

    Example:
        >>> try:
        ...     convert.verify_file("my_mixer.safetensors")
        ... except convert.IOProblem as error:
        ...     print(str(error).partition(".")[0], error.exit_code)
        my_mixer 4
    """

    exit_code = 4


class IntegrityProblem(MixerConvertError):
    """Something changed while it was in use, or does not match its hash (exit 5).

    Example:
        >>> import pathlib
        >>> other = pathlib.Path("edited.pdparams")
        >>> _ = convert.convert_file("my_mixer.safetensors", other, num_classes=2)
        >>> _ = other.write_bytes(pathlib.Path("my_mixer.pdparams").read_bytes())
        >>> try:
        ...     convert.load_state_dict(other)
        ... except convert.IntegrityProblem as error:
        ...     print(error.exit_code)
        5
    """

    exit_code = 5


class UnknownVariant(UsageProblem):
    """A variant name that the table does not hold."""

    def __init__(self, name: str, close: Collection[str], known: Collection[str]) -> None:
        self.close, self.known = close, known
        guess = f"Did you mean {_either(close)}?" if close else f"Known: {', '.join(known)}."
        super().__init__(f"--variant {name}: no such variant. {guess}")


class AmbiguousVariant(UsageProblem):
    """A timm name that is deprecated or leaves the tag open, so that it could mean several checkpoints."""

    def __init__(self, name: str, reason: str, candidates: Collection[str]) -> None:
        super().__init__(f"--variant {name}: {reason}. Say which one you mean: {_either(candidates)}.")


class NoPretrainedWeights(UsageProblem):
    """A variant without published weights, asked for without another source of weights."""

    def __init__(self, variant: str) -> None:
        super().__init__(
            f"--variant {variant}: timm publishes no weights for it. Pass --checkpoint FILE, or --init random."
        )


class MissingPackage(UsageProblem):
    """Packages that the job needs and that are not installed. Takes each one's pip name, and its requirement."""

    def __init__(self, packages: Collection[str], requirements: Collection[str]) -> None:
        import shlex

        self.packages = tuple(packages)
        are = "are" if len(packages) > 1 else "is"
        own_build = " A build of Paddle for your GPU will do as well." if "paddlepaddle" in packages else ""
        super().__init__(
            f"{_joined(packages, 'and')} {are} needed for this and not installed. "
            f"Run: pip install {shlex.join(requirements)}.{own_build}"
        )


class OldPackage(UsageProblem):
    """A package that the job needs in a newer version. Takes its pip name, the version found, and our requirement."""

    def __init__(self, package: str, found: str, requirement: str) -> None:
        import shlex

        own_build = " A newer build of Paddle for your GPU will do as well." if package == "paddlepaddle" else ""
        super().__init__(
            f"{package} {found} is too old for this, {requirement} is needed. "
            f"Run: pip install {shlex.quote(requirement)}.{own_build}"
        )


class KeyMismatch(BadInput):
    """Keys that are missing from a checkpoint, or that no rule takes."""

    def __init__(
        self, source: str, missing: Iterable[str], unexpected: Iterable[str], expected: str, hint: str = ""
    ) -> None:
        self.missing, self.unexpected = tuple(sorted(missing)), tuple(sorted(unexpected))
        parts = [
            f"{len(keys)} {label} ({_listing(keys, sign)})"
            for label, sign, keys in (("missing", "-", self.missing), ("unexpected", "+", self.unexpected))
            if keys
        ]
        super().__init__(
            f"{source}: its keys are not those of {expected}: {', '.join(parts)}. {hint or 'Is it the right file?'}"
        )


class NoHead(BadInput):
    """Weights without a head, or with a part of one, where a whole one is needed."""

    def __init__(self, source: str, missing: Collection[str]) -> None:
        super().__init__(
            f"{source}: it has no head: {_listing(tuple(sorted(missing)), '-')}. `mixer-convert --num-classes N` draws "
            "a fresh one."
        )


class NoKnownLayout(BadInput):
    """Tensors of which none has a known name."""

    def __init__(self, source: str, names: Collection[str], hint: str) -> None:
        some = ", ".join(map(printable, sorted(names)[:LISTED]))
        super().__init__(
            f"{source}: no vision MLP that is known here has such names ({len(names)}: {some}"
            f"{', …' if len(names) > LISTED else ''}). {hint or 'Is it the right file?'}"
        )


class ShapeMismatch(BadInput):
    """Tensors whose shape is not what the config implies. Takes (key, found, expected) per tensor; names the first."""

    def __init__(
        self, source: str, wrong: list[tuple[str, tuple[int, ...], tuple[int, ...]]], expected: str, advice: str
    ) -> None:
        key, found, wanted = wrong[0]
        more = f" (and {len(wrong) - 1} more of another shape)" if len(wrong) > 1 else ""
        super().__init__(f"{key}: {source} has {found}, {expected} expects {wanted}{more}. {advice}")


class WrongDtype(BadInput):
    """A tensor of a dtype that a Mixer's weights do not have."""

    def __init__(self, source: str, key: str, dtype: str, accepted: Collection[str]) -> None:
        super().__init__(f"{key}: {source} has dtype {dtype}, expected {_either(accepted)}. Save the weights as one.")


class MixedDtypes(BadInput):
    """Weights of several dtypes, which Paddle cannot load into one model."""

    def __init__(self, source: str, counts: Mapping[str, int]) -> None:
        found = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        super().__init__(
            f"{source}: its tensors have several dtypes ({found}), which no Paddle model loads. `mixer-convert "
            "--dtype float32` holds each value exactly."
        )


class NonFinite(BadInput):
    """A weight that is NaN or infinite."""

    def __init__(self, source: str, key: str, index: tuple[int, ...], value: float, count: int) -> None:
        super().__init__(
            f"{key}: {source} has {value} at index {index}, {count} element(s) in all are not finite. "
            "Such weights cannot be converted or compared; get the file again or retrain."
        )


class TooLarge(BadInput):
    """A weight that a narrower dtype cannot hold."""

    def __init__(self, key: str, index: tuple[int, ...], value: float, count: int, dtype: str) -> None:
        super().__init__(
            f"{key}: {value} at index {index} is too large for {dtype}, as {count} element(s) in all are. "
            "Pass --dtype bfloat16 or float32, or leave it out."
        )


class WrongFileKind(BadInput):
    """A file whose content is not what its suffix says."""

    def __init__(self, path: Path, found: str, expected: str, advice: str) -> None:
        super().__init__(f"{path}: it is {found}, not {expected}. {advice}")


class Unreadable(BadInput):
    """A file of the right kind that is damaged or holds something we do not read."""

    def __init__(self, path: Path, reason: str, advice: str = "Get the file again from where it came.") -> None:
        super().__init__(f"{path}: {printable(reason).rstrip('.')}. {advice}")


class OutputRefused(UsageProblem):
    """An output path that would overwrite something."""

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(f"{path}: {reason}. {advice}")


class Unavailable(IOProblem):
    """Weights that could not be fetched from the hub, for a reason that may have a remedy of its own."""

    def __init__(self, repo_id: str, filename: str, reason: str, variant: str, advice: str = "") -> None:
        self.reason = reason
        super().__init__(
            f"{repo_id}: {filename} could not be fetched ({reason}) and is not in the cache. "
            f"{f'{advice} Or fetch' if advice else 'Fetch'} it where there is "
            f"a network (https://huggingface.co/{repo_id}/blob/main/{filename}) and pass it: "
            f"--variant {variant} --checkpoint {filename}"
        )


def printable(text: str) -> str:
    """Return text from a file made safe to show: unprintable characters are escaped, and its length is limited."""
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: SHOWN + 1])
    return shown if len(shown) <= SHOWN else shown[:SHOWN] + "…"


def _listing(keys: tuple[str, ...], sign: str) -> str:
    shown = ", ".join(f"{sign} {key}" for key in keys[:LISTED])
    return shown + (f", … and {len(keys) - LISTED} more" if len(keys) > LISTED else "")


def _either(names: Collection[str]) -> str:
    return _joined(names, "or")


def _joined(names: Collection[str], word: str) -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
