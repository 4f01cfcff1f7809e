"""What a command line that names two models asks for: the models, their inputs and their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from align.core.case import Case, Settings
from align.core.inputs import Input
from align.core.weights import in_float32
from align.pairing.pairing import Pairing
from align.probes import paddle_probe, torch_probe
from align.twins.case import Twins, case_of_twins
from align.twins.match import PairedModel, matched
from convert.arrays import Shape, StateDict
from convert.errors import BadInput, UsageProblem, printable
from convert.family import Source
from convert.files.sets import Selection
from convert.pairing.family import PairedFamily
from convert.pairing.weights import WeightEntry, WeightTable
from convert.sources import from_file, with_sha256

Say = Callable[[str, Sequence[str]], None]

OF_FAMILIES = ("variant", "reference", "src", "gelu", "layer_norm_eps", "dtype")
"""Options that apply to a family's models only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """The files with the reference's and the candidate's weights, and which set of weights to take from each."""

    checkpoint: Path | None = None
    selection: Selection | None = None
    candidate: Path | None = None
    candidate_key: str | None = None


def refuse_family_options(options: Mapping[str, Any]) -> None:
    """Refuse options that apply to a family's models only, and options that do not go together.

    Raises:
        UsageProblem: One is given; the text names it.
    """
    for name in OF_FAMILIES:
        if options.get(name) is not None:
            raise UsageProblem(
                f"--{name.replace('_', '-')} is about the models that mixer-convert --list names, not about "
                "--reference-model. Leave it out."
            )
    if options.get("checkpoint") is None and (options.get("weights_key") or options.get("ema") is not None):
        raise UsageProblem("--weights-key and --ema go with --checkpoint. Add it, or leave them out.")
    if options.get("candidate_key") is not None and options.get("candidate") is None:
        raise UsageProblem("--candidate-key goes with --candidate. Add it, or leave it out.")
    if options.get("own_weights") and (options.get("checkpoint") or options.get("candidate")):
        raise UsageProblem("--own-weights judges what the models hold. Leave out --checkpoint and --candidate.")


def inputs_of(shape: str | None, pairing: Pairing, model: Any = None) -> tuple[Input, ...]:
    """Return the models' inputs: from the option, from the pairing file, or from timm's config of the model.

    Raises:
        UsageProblem: Nothing states them, or both the option and the pairing file do, or the option is no shape.
    """
    if shape is not None and pairing.inputs:
        raise UsageProblem(f"--input-shape {shape}: {pairing.place} has [inputs]. Leave one of them out.")
    if shape is not None:
        return (Input(shape=_sizes(shape)),)
    if pairing.inputs:
        return pairing.inputs
    known = getattr(model, "pretrained_cfg", None) or {}
    if isinstance(size := known.get("input_size") if isinstance(known, Mapping) else None, Sequence):
        return (Input(shape=tuple(map(int, size))),)
    raise UsageProblem(
        "Nothing says what the models are given. Pass --input-shape, such as 3,224,224, or write [inputs] in a pairing "
        "file."
    )


def _sizes(shape: str) -> Shape:
    try:
        sizes = tuple(int(size) for size in shape.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageProblem(f"--input-shape {shape}: it has to be sizes with commas between, such as 3,224,224.")
    return sizes


def case_of_files(twins: Twins, files: WeightFiles, settings: Settings, say: Say) -> Case:
    """Return the case of two models with weights from files, or else with seeded weights or the models' own.

    Args:
        twins: The models.
        files: The weights.
        settings: How the batch is drawn.
        say: Called with a file's name and the assumptions made about it.
    """
    if files.checkpoint is None and files.candidate is None:
        said = "its own weights" if twins.own_weights else f"seeded random weights (seed {twins.seed})"
        return case_of_twins(replace(twins, provenance={"kind": said, "notes": []}), settings)
    table = _table(twins)
    family = PairedFamily(table)
    source = files.checkpoint and _read(files.checkpoint, files.selection, family, say)
    judged = files.candidate and read_candidate(files.candidate, files.candidate_key, family, say)
    if source:
        _check_holds(source, twins, table)
    provenance = {
        "kind": "file" if source else "random",
        "notes": [*(source.notes if source else ())],
        "file": source.provenance.file if source else None,
        "sha256": source.provenance.sha256 if source else None,
        "weights_key": source.provenance.weights_key if source else None,
        "candidate": judged.name if judged else None,
        "candidate_sha256": judged.provenance.sha256 if judged else None,
        "candidate_key": judged.provenance.weights_key if judged else None,
        "candidate_notes": [*(judged.notes if judged else ())],
    }
    weights: StateDict | None = in_float32(source.state_dict) if source else None
    candidate: StateDict | None = in_float32(judged.state_dict) if judged else None
    return case_of_twins(replace(twins, weights=weights, candidate_weights=candidate, provenance=provenance), settings)


def read_candidate(path: Path, key: str | None, family: PairedFamily, say: Say) -> Source:
    """Return the candidate's weights from a file.

    Args:
        path: The file.
        key: Which set of weights to take, if the file holds several.
        family: The tensor names that may be in it.
        say: Called with the file's name and the assumptions made about it.
    """
    return _read(path, Selection(key=key, option="--candidate-key", by_name=False), family, say)


def _read(path: Path, selection: Selection | None, family: PairedFamily, say: Say) -> Source:
    source = with_sha256(from_file(path, selection, family=family))
    say(source.name, source.notes)
    return source


def _check_holds(source: Source, twins: Twins, table: WeightTable) -> None:
    """Check that a file holds the reference's tensors, in their shapes, and no others; dropped ones may be missing.

    Raises:
        BadInput: It does not.
    """
    wanted = {key: array.shape for key, array in torch_probe.parameters(twins.reference).items()}
    needed = wanted.keys() - table.rules_for(wanted.keys())[1].keys()
    missing = [key for key in wanted if key in needed and key not in source.shapes]
    more = sorted(source.shapes.keys() - wanted.keys())
    if missing or more:
        said = [f"it has no {missing[0]}{_and(missing)}"] if missing else []
        said += [f"it has {printable(more[0])}{_and(more)}, which the reference has not"] if more else []
        raise BadInput(
            f"{source.name}: {' and '.join(said)}. --checkpoint takes the reference's weights by its own names; the "
            "candidate's go with --candidate."
        )
    if other := next((key for key, shape in wanted.items() if source.shapes.get(key, shape) != shape), None):
        raise BadInput(
            f"{source.name}: {other}: it has {source.shapes[other]}, the reference {wanted[other]}. Is it a checkpoint "
            "of this model, of the same arguments?"
        )


def _and(keys: Sequence[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


def _table(twins: Twins) -> WeightTable:
    """Return the table that maps tensor names in the reference's file to those in the candidate's."""
    if twins.pairing.weights is not None:
        return twins.pairing.weights
    sides = PairedModel.of(torch_probe, twins.reference), PairedModel.of(paddle_probe, twins.candidate)
    match = matched(*sides, twins.pairing)
    entries = [WeightEntry(name=rule.source, to=rule.target, transform=rule.transform) for rule in match.rules]
    dropped = [WeightEntry(name=key, why_dropped=why) for key, why in match.dropped.items()]
    return WeightTable(place=twins.pairing.place, entries=[*entries, *dropped])
