"""The hub's files: fetched by huggingface_hub or taken from its cache, and removed from the cache if they are bad."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convert.errors import BadInput, IntegrityProblem, MixerConvertError, Unavailable, UsageProblem
from convert.hub.answers import HUB_FILENAME, SHA256, unavailable
from convert.hub.watch import LIMIT, Watch
from convert.identity import NamedVariant

UNVERIFIED = "the hub stated no SHA-256, so what came could not be checked against it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A file in the hub's cache, …/snapshots/<revision>/model.safetensors; the SHA-256 that the hub stated; notes."""

    path: Path
    stated: str | None
    notes: tuple[str, ...] = ()

    def is_verified(self, sha256: str) -> bool:
        """Return whether the content's SHA-256 is the one that the hub stated; False where it stated none.

        Raises:
            IntegrityProblem: The hub stated another.
        """
        if self.stated is not None and self.stated != sha256:
            raise IntegrityProblem(
                f"{self.path}: its SHA-256 is {sha256}, but the hub stated {self.stated}. "
                "It was removed from the cache: run again to fetch it anew."
            )
        return self.stated is not None


def fetch(variant: NamedVariant) -> Fetched:
    """Return a variant's published weights, fetched from the hub, or from the cache if the hub cannot be asked.

    `HF_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE` and a token are honoured, as huggingface_hub documents them;
    `HF_HUB_ETAG_TIMEOUT` and `HF_HUB_DOWNLOAD_TIMEOUT` only where they are shorter than our limit.

    Raises:
        Unavailable: They are neither reachable nor cached.
        BadInput: What came is a web page, and they are not cached.
        IntegrityProblem: The hub states a name that no file or folder of the cache can have.
    """
    with _quietly():
        from huggingface_hub import constants

        notes: tuple[str, ...] = ()
        if constants.HF_HUB_OFFLINE:
            failure: MixerConvertError = unavailable(variant, "HF_HUB_OFFLINE is set", "Unset it.")
        else:
            watch = Watch(variant, _limit("HF_HUB_ETAG_TIMEOUT"), _limit("HF_HUB_DOWNLOAD_TIMEOUT"))
            try:
                path = _download(variant, watch)
                return Fetched(path=path, stated=_stated(path, watch.tag))
            except (Unavailable, BadInput) as error:
                failure = error
            reason = failure.reason if isinstance(failure, Unavailable) else "an HTML page came in its stead"
            notes = (f"the hub could not be asked ({reason}): the weights are those of the cache",)
        path_or_none = _cached(variant)
    if path_or_none is None:
        raise failure
    return Fetched(path=path_or_none, stated=_stated(path_or_none), notes=notes)


@contextlib.contextmanager
def removed_if_bad(path: Path) -> Iterator[None]:
    """Run the body; if that finds the file bad, remove it from the hub's cache, link, blob and all."""
    try:
        yield
    except IntegrityProblem:
        _remove(path)
        raise
    except BadInput as error:
        _remove(path)
        raise BadInput(f"{error} It was removed from the cache.") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Run the body with the client's warnings kept off stderr, unless the user set a verbosity of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from huggingface_hub.utils import logging as client
        except ValueError as error:  # a variable that has to be a number is none
            raise UsageProblem(f"huggingface_hub cannot be set up: {error}. Check the HF_HUB_ variables.") from error
        verbosity = client.get_verbosity()
        client.set_verbosity(logging.CRITICAL if verbosity == logging.WARNING else verbosity)
        try:
            yield
        finally:
            client.set_verbosity(verbosity)


def _limit(name: str) -> float:
    from huggingface_hub import constants

    return min(LIMIT, float(getattr(constants, name))) if os.environ.get(name) else LIMIT


def _download(variant: NamedVariant, watch: Watch) -> Path:
    from huggingface_hub import get_session, hf_hub_download

    def work() -> Path:
        limit = watch.answer_limit
        return Path(hf_hub_download(variant.repo_id, HUB_FILENAME, library_name="mixer-convert", etag_timeout=limit))

    try:
        with watch.over(get_session()):
            return watch.run(work)
    except MixerConvertError:
        raise
    except Exception as error:  # the HTTP clients that it has used over time share no base class
        raise unavailable(variant, *_reason(error, watch)) from error


def _reason(error: Exception, watch: Watch) -> tuple[str, str]:
    """Return why the client failed, and what to do; never its own words, which may hold a token."""
    from huggingface_hub.errors import FileMetadataError

    if isinstance(error, OSError) and error.errno is not None:
        return f"the hub's cache cannot be written: {error.strerror}", "Check HF_HOME and the disk."
    if isinstance(error.__cause__, FileMetadataError):
        return "what answered is no hub: it states no revision or no ETag", "Check HF_ENDPOINT."
    if progress := watch.progress():
        return f"the download broke off {progress}", "Run again."
    return type(error).__name__, "Check HF_ENDPOINT."


def _cached(variant: NamedVariant) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(variant.repo_id, HUB_FILENAME)
    return Path(found) if isinstance(found, str) else None


def _stated(path: Path, tag: str | None = None) -> str | None:
    """Return the SHA-256 that the hub stated: the blob's name or, if the cache has no links, the tag; None if neither.

    The blob may itself be a link into a store that repositories share, where names are hashes of another kind.
    """
    name = path.readlink().name if path.is_symlink() else tag
    return name if name is not None and SHA256.fullmatch(name) else None


def _remove(path: Path) -> None:
    """Remove a snapshot's file and, as far as the links lead inside the cache, what it links to."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE).resolve()
    while path.parent.resolve().is_relative_to(cache):
        target = path.parent / path.readlink() if path.is_symlink() else None
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if target is None:
            return
        path = target
