"""Where weights come from: a local file, the Hugging Face hub, or a seeded initialisation; each with its provenance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from convert import families, files
from convert.arrays import StateDict
from convert.disk.hashing import EarlyHash, file_sha256
from convert.disk.unchanged import Snapshot, unchanged
from convert.errors import LISTED, IOProblem, NoPretrainedWeights, printable
from convert.evidence.recorded import is_by_pairing, said_of
from convert.family import Family, Provenance, Source
from convert.files.content import Content
from convert.files.names import check_names
from convert.files.sets import Selection, WeightSet, choose, refuse_others
from convert.identity import NamedVariant
from convert.naming import Naming

AS_NAMED = Naming({}, (), complete=True)
"""The naming of files that a pairing file was used on: no name is known, and none is changed."""


def from_file(
    path: Path,
    selection: Selection | None = None,
    *,
    family: Family | None = None,
    early: EarlyHash | None = None,
    strict: bool = True,
) -> Source:
    """Return the weights of a local checkpoint, without the prefix common to all names.

    Args:
        path: A checkpoint, the index of a sharded one, or a folder with either.
        selection: Which of several sets of weights.
        family: The family that it belongs to; None: told by its names.
        early: May have the hash of the file already.
        strict: Whether a manifest beside it has to be about it. If False, one that is not is left aside, with a note,
            and what was converted by a pairing file keeps the names that it has.

    Raises:
        UsageProblem: There are several sets of weights, or not the one selected.
        BadInput: It is no checkpoint, is damaged, or is not safe to read.
        IntegrityProblem: It changed meanwhile, or the manifest beside it is about another file.
    """
    file = files.locate(path)
    with unchanged(file, *files.shards_of(file)) as snapshots:
        content, chosen, family, naming = _open(file, selection, family, as_named=not strict)
        said = said_of(file, content.metadata, lambda: _sha256(file, early, snapshots), family.vocabulary)
    if said.problem and strict:
        raise said.problem
    state_dict, prefix = _without_prefix(chosen.tensors, naming)
    weights, counters = _without_counters(state_dict, naming)
    origin = Provenance(kind="file", file=file.name, sha256=said.sha256, weights_key=chosen.key, stripped_prefix=prefix)
    return Source(
        state_dict=weights,
        name=file.name,
        family=family,
        provenance=origin,
        path=file,
        snapshots=snapshots,
        dropped=counters,
        tensors=chosen.tensors,
        claims=said.claims,
        tool=content.tool,
        foreign=content.foreign,
        notes=(*_left_out(chosen, naming), *said.aside, *_taken(path, file, prefix)),
    )


def tensors_of(path: Path, selection: Selection | None = None, *, as_named: bool = False) -> StateDict:
    """Return all tensors of a set, counters included, without the prefix common to all names, unless as_named."""
    if as_named:
        return choose(path, files.load(path).tree, selection or Selection(), AS_NAMED).tensors
    _, chosen, _, naming = _open(path, selection, None, as_named=False)
    return _without_prefix(chosen.tensors, naming)[0]


def from_hub(family: Family, variant: NamedVariant) -> Source:
    """Return the weights that timm publishes for a variant, fetched by huggingface_hub or taken from its cache.

    Raises:
        NoPretrainedWeights: Nobody published any.
        Unavailable: They are neither reachable nor cached.
        BadInput: What came is not a checkpoint.
        IntegrityProblem: The file is not the one whose SHA-256 the hub stated.
    """
    if not variant.pretrained:
        raise NoPretrainedWeights(variant.name)
    from convert.hub.download import UNVERIFIED, fetch, removed_if_bad

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
        family=family,
        provenance=provenance,
        path=path,
        snapshots=snapshots,
        notes=fetched.notes if verified else (*fetched.notes, UNVERIFIED),
    )


def from_seed(family: Family, variant: NamedVariant, seed: int) -> Source:
    """Return seeded random weights with a variant's sizes."""
    return Source(
        state_dict=family.draw(variant.config, seed),
        name=f"random weights (seed {seed})",
        family=family,
        provenance=Provenance(kind="random", seed=seed),
    )


def with_sha256(source: Source, early: EarlyHash | None = None) -> Source:
    """Return the source with the SHA-256 of its files, if it has any, in its provenance.

    Args:
        source: The source.
        early: May have the hash of the file at its path already.

    Raises:
        IntegrityProblem: The files have changed since the source was read.
        IOProblem: The disk refused.
    """
    if source.path is None or source.provenance.kind == "hub":
        return source
    try:
        sha256 = source.provenance.sha256 or _sha256(source.path, early, source.snapshots)
        shards = {shard.name: file_sha256(shard) for shard in files.shards_of(source.path)}
    except OSError as error:
        source.check_unchanged()
        raise IOProblem(f"{source.path}: cannot be read ({error.strerror}). Check the disk.") from error
    source.check_unchanged()
    return replace(source, provenance=replace(source.provenance, sha256=sha256, shards=shards))


def _open(
    file: Path, selection: Selection | None, family: Family | None, *, as_named: bool
) -> tuple[Content, WeightSet, Family, Naming]:
    """Return what a file holds, the set of weights meant, its family, and what is known of its names.

    as_named: Whether names are kept as they are if the file says that it was converted by a pairing file.
    """
    content = files.load(file)
    naming = family.naming if family is not None and family.naming.complete else None
    if as_named and is_by_pairing(file, content.metadata):
        naming = AS_NAMED
    chosen = choose(file, content.tree, selection or Selection(), naming or families.naming())
    check_names(file, [*chosen.tensors, *chosen.others])
    family = family or families.nearest(chosen.tensors)
    naming = naming or family.naming
    known, prefix = naming.holds_weights(chosen.tensors), naming.common_prefix(chosen.tensors)
    refuse_others(
        file,
        chosen,
        lambda name: naming.known([name.removeprefix(prefix)]) > 0 if known else name in chosen.others,
    )
    return content, chosen, family, naming


def _sha256(file: Path, early: EarlyHash | None, snapshots: tuple[Snapshot, ...]) -> str:
    return (early and early.among(snapshots)) or file_sha256(file)


def _left_out(chosen: WeightSet, naming: Naming) -> tuple[str, ...]:
    """Return a note on what a set holds besides weights, if anything."""
    counters = _without_counters(chosen.tensors, naming)[1]
    named = sorted({**dict.fromkeys(counters, "a counter"), **chosen.others}.items())
    more = ", …" if len(named) > LISTED else ""
    return (f"left out: {', '.join(f'{name} ({what})' for name, what in named[:LISTED])}{more}",) if named else ()


def _taken(path: Path, file: Path, prefix: str | None) -> Iterator[str]:
    """Yield notes on which file of a folder was taken, and which prefix was stripped from its names."""
    if file != path:
        yield f"of the folder, {file.name} was taken"
    if prefix:
        yield f"the prefix {printable(prefix)} was stripped from every name"


def _without_prefix(state_dict: StateDict, naming: Naming) -> tuple[StateDict, str | None]:
    prefix = naming.common_prefix(state_dict)
    return {key.removeprefix(prefix): array for key, array in state_dict.items()}, prefix or None


def _without_counters(state_dict: StateDict, naming: Naming) -> tuple[StateDict, StateDict]:
    """Return the weights, and apart from them the integers that training counts in, such as `n_averaged`."""
    if naming.complete:
        return state_dict, {}
    counters = {key: array for key, array in state_dict.items() if array.ndim == 0 and array.dtype.kind in "iu"}
    return {key: array for key, array in state_dict.items() if key not in counters}, counters
