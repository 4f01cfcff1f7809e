"""Where weights come from: a local file, the Hugging Face hub, or a seeded initialisation; each with its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from convert import files
from convert.arrays import StateDict
from convert.errors import IOProblem, NoPretrainedWeights
from convert.hashing import EarlyHash, file_sha256
from convert.init import init_state_dict
from convert.unchanged import Snapshot, check_unchanged, unchanged
from convert.variants import MixerConfig, Variant

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What torch.nn.DataParallel and torch.compile put before every key of a saved state dict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What is known about the origin of weights; fields that do not apply are None.

    Of local files sha256 and shards (that of each shard, by name) are known only after `with_sha256`, which reads them.
    """

    kind: str
    file: str | None = None
    sha256: str | None = None
    repo_id: str | None = None
    revision: str | None = None
    seed: int | None = None
    shards: Mapping[str, str] = field(default_factory=dict)
    ema: bool | None = None
    stripped_prefix: str | None = None
    verified_by_hub: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A timm state dict, what to call it in a sentence, its provenance, remarks, and its files, as found."""

    state_dict: StateDict
    name: str
    provenance: Provenance
    path: Path | None = None
    snapshots: tuple[Snapshot, ...] = ()
    notes: tuple[str, ...] = ()

    def check_unchanged(self) -> None:
        """Check that what was read is what lies there still, so that the hashes are those of the bytes converted.

        Raises:
            IntegrityProblem: A file was replaced, written to or removed.
        """
        check_unchanged(self.snapshots)


def read_weights(path: Path, *, ema: bool | None = None) -> tuple[StateDict, str | None]:
    """Return a local checkpoint's weights and the prefix that a wrapper put before every key, which is stripped."""
    return _strip_prefix(files.read(path, ema=ema))


def from_file(path: Path, *, ema: bool | None = None) -> Source:
    """Return the weights of a local checkpoint, without the prefix that a wrapper put before every key.

    Args:
        path: A checkpoint, or the index of a sharded one.
        ema: Which weights of a training checkpoint that holds raw and averaged ones; None when it holds one set.
    """
    with unchanged(path, *files.shards_of(path)) as snapshots:
        state_dict, prefix = read_weights(path, ema=ema)
    provenance = Provenance(kind="file", file=path.name, ema=ema, stripped_prefix=prefix)
    return Source(state_dict=state_dict, name=path.name, provenance=provenance, path=path, snapshots=snapshots)


def from_hub(variant: Variant) -> Source:
    """Return the weights that timm publishes for a variant, fetched by huggingface_hub or taken from its cache.

    Raises:
        NoPretrainedWeights: Nobody published any.
        Unavailable: They are neither reachable nor cached.
        BadInput: What came is not a checkpoint.
        IntegrityProblem: The file is not the one whose SHA-256 the hub stated.
    """
    if not variant.pretrained:
        raise NoPretrainedWeights(variant.name)
    from convert.hub import UNVERIFIED, fetch, removed_if_bad

    fetched = fetch(variant)
    path = fetched.path
    with removed_if_bad(path), unchanged(path) as snapshots:
        sha256 = file_sha256(path)
        verified = fetched.is_verified(sha256)
        state_dict = files.read(path)
    provenance = Provenance(
        kind="hub",
        file=path.name,
        sha256=sha256,
        repo_id=variant.repo_id,
        revision=path.parent.name,
        verified_by_hub=verified,
    )
    return Source(
        state_dict=state_dict,
        name=variant.repo_id,
        provenance=provenance,
        path=path,
        snapshots=snapshots,
        notes=fetched.notes if verified else (*fetched.notes, UNVERIFIED),
    )


def from_seed(config: MixerConfig, seed: int) -> Source:
    """Return seeded random weights of a config."""
    provenance = Provenance(kind="random", seed=seed)
    return Source(state_dict=init_state_dict(config, seed), name=f"random weights (seed {seed})", provenance=provenance)


def with_sha256(source: Source, early: EarlyHash | None = None) -> Source:
    """Return the source with the SHA-256 of its files, if it has any, in its provenance.

    Args:
        source: The source.
        early: May know that of its path already.

    Raises:
        IntegrityProblem: They are not as they were when the source was read.
        IOProblem: The disk refused.
    """
    if source.path is None or source.provenance.sha256 is not None:
        return source
    try:
        sha256 = (early and early.among(source.snapshots)) or file_sha256(source.path)
        shards = {shard.name: file_sha256(shard) for shard in files.shards_of(source.path)}
    except OSError as error:
        source.check_unchanged()
        raise IOProblem(f"{source.path}: cannot be read ({error.strerror}). Check the disk.") from error
    source.check_unchanged()
    return replace(source, provenance=replace(source.provenance, sha256=sha256, shards=shards))


def _strip_prefix(state_dict: StateDict) -> tuple[StateDict, str | None]:
    stripped = ""
    while prefix := next((p for p in WRAPPER_PREFIXES if state_dict and all(k.startswith(p) for k in state_dict)), ""):
        state_dict = {key.removeprefix(prefix): array for key, array in state_dict.items()}
        stripped += prefix
    return state_dict, stripped or None
