"""The weights of both sides, as options name them, each checked as a conversion checks it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from align.alignment import Say
from align.mixer.case import OwnModel, Reference, Subject
from convert import files
from convert.checks.installed import require
from convert.checks.verify import refuse_foreign
from convert.errors import UsageProblem
from convert.family import Provenance, Source
from convert.files.sets import TOP, Selection
from convert.identity import Claim, first_said
from convert.job import check_and_map, choose_source, request_of
from convert.mixer.family import MIXER
from convert.mixer.identity import CHOICES, agreed, check_sizes, unsaid
from convert.mixer.layouts import recognise
from convert.mixer.mapping import convert_state_dict
from convert.mixer.rule_tables import Layout
from convert.mixer.variants import MixerConfig, Variant
from convert.request import Adaptation
from convert.sources import from_file, with_sha256

DEFAULT_VARIANT = "b16_in21k"


def subject_of(options: Mapping[str, Any], say: Say) -> Subject:
    """Return what the options say to compare; report what is taken for granted about the weights.

    Args:
        options: reference (timm or flax; None: flax for Google's files, else timm), variant, checkpoint (None: seeded
            random weights), init, seed, candidate (Paddle's weights; None: the reference's, converted), candidate_key,
            layer (a porter's own model), its pairing, candidate_model (what to call it) and own_weights; src,
            weights_key, ema, gelu, layer_norm_eps and dtype, as in `mixer-convert`.
        say: Called with what is taken for granted.
    """
    given = dict(options)
    reference, init, seed = given.pop("reference", None), given.pop("init", None), given.pop("seed", 0)
    candidate, key = given.pop("candidate", None), given.pop("candidate_key", None)
    model = _own_model(given, candidate)
    checkpoint, variant = given.pop("checkpoint", None), given.pop("variant", None)
    request = request_of(
        variant=variant or (None if checkpoint else DEFAULT_VARIANT),
        checkpoint=checkpoint,
        init_seed=seed if init or not checkpoint else None,
        dst="timm",
        adaptation=Adaptation(dtype=given.pop("dtype", None)),
        **given,
    )
    source = with_sha256(choose_source(request))
    port = check_and_map(source, request)
    say(source.name, port.notes)
    chosen = cast("Variant | None", request.variant)
    subject = Subject(
        source=port.conversion.state_dict,
        config=port.config,
        name=_named(source, chosen),
        variant=chosen,
        reference=_available(reference, port.config, of_google="google" in (request.src, port.layout)),
        model=model,
        provenance={**asdict(source.provenance), "notes": list(port.notes)},
    )
    return _with_candidate(subject, candidate, key, say)


def read_candidate(path: Path, key: str | None, config: MixerConfig) -> Source:
    """Return a candidate's weights; `tensors` has them under the names by which our Paddle model would load them.

    Args:
        path: The file, in any layout that Paddle's models have.
        key: Which set of weights, if it holds several.
        config: The reference's config.

    Raises:
        UsageProblem: The file, or its manifest, says that it is for another GELU or epsilon.
        BadInput: It cannot be read, or Paddle would execute something in it.
    """
    source = from_file(path, Selection(key=key, option="--candidate-key", by_name=False))
    refuse_foreign(source)
    found, layouts = recognise(source.state_dict, source.name) or (None, ())
    if found is not None:
        check_sizes(source.name, found, source.claims)
    if unknown := unsaid(source.claims):
        said = f"nothing says which {' and '.join(unknown)} it is for: the reference's assumed"
        source = replace(source, notes=(*source.notes, said))
    reference = Claim(place="the reference", config={choice: getattr(config, choice) for choice in CHOICES})
    agreed(path.name, config, (*source.claims, reference))
    layout = _layout(source, layouts)
    if found is None or layout is None:
        return source
    moved = convert_state_dict(source.state_dict, found, src=layout, name=source.name).state_dict
    made = shlex.join(["mixer-convert", "--src", layout, "--checkpoint", str(path)])
    said = f"it has {layout}'s layout, which Paddle does not load; judged is what `{made}` makes of it"
    return replace(source, tensors=moved, notes=(*source.notes, said))


def _layout(source: Source, layouts: tuple[str, ...]) -> Layout | None:
    """Return the layout that a candidate has to be converted from; None if it is to be judged as it is.

    A file that Paddle wrote, with Linear weights as torch stores them, is a wrong port, not a file in timm's layout.
    """
    said = first_said(source.claims, "layout")
    possible = [layout for layout in layouts if said in (None, layout)]
    if not possible or "paddle" in possible or (source.tool == "paddle" and possible == ["timm"]):
        return None
    return cast("Layout", possible[0])


def _own_model(given: dict[str, Any], candidate: Path | None) -> OwnModel | None:
    """Return a porter's own model, if there is one, removing its options from `given`."""
    layer, pairing, target = given.pop("layer", None), given.pop("pairing", None), given.pop("candidate_model", None)
    own_weights = given.pop("own_weights", False)
    if layer is None and (pairing is not None or own_weights):
        raise UsageProblem("--pairing and --own-weights go with --candidate-model. Add it, or leave them out.")
    if own_weights and candidate is not None:
        raise UsageProblem("--own-weights and --candidate exclude each other. Pass one of them.")
    if layer is None:
        return None
    pairings = {} if pairing is None else {"pairing": pairing}
    return OwnModel(layer=layer, target=target, own_weights=own_weights, **pairings)


def _with_candidate(subject: Subject, candidate: Path | None, key: str | None, say: Say) -> Subject:
    """Return the subject with the candidate's weights, if a file is named, and with their provenance."""
    said: dict[str, Any] = {"candidate": None, "candidate_key": None, "candidate_notes": []}
    if candidate is None:
        if key is not None:
            raise UsageProblem("--candidate-key goes with --candidate. Add it, or leave it out.")
        return replace(subject, provenance={**subject.provenance, **said})
    model, config = subject.model, subject.config
    judged = read_candidate(candidate, key, config) if model is None else _of_model(candidate, key, config, model)
    say(judged.name, judged.notes)
    said = {
        "candidate": candidate.name,
        "candidate_key": judged.provenance.weights_key,
        "candidate_notes": list(judged.notes),
    }
    subject = replace(subject, provenance={**subject.provenance, **said})
    if model is None:
        return replace(subject, candidate=judged.tensors)
    return replace(subject, model=replace(model, weights=judged.tensors))


def _of_model(path: Path, key: str | None, config: MixerConfig, model: OwnModel) -> Source:
    """Return a file's tensors by the names of a porter's own model: its own, or timm's translated by the pairing."""
    held, file = model.layer.state_dict(), files.locate(path)
    content = files.load(file)
    if key is None and isinstance(content.tree, dict) and 2 * len(content.tree.keys() & held) > len(held):
        provenance = Provenance(kind="file", file=file.name)
        source = Source(state_dict=files.read(file), name=file.name, family=MIXER, provenance=provenance, path=file)
        source = replace(source, tensors=source.state_dict, tool=content.tool, foreign=content.foreign)
        refuse_foreign(source)
        if not _is_timms(file):
            return source
    moved = read_candidate(path, key, config)
    return replace(moved, tensors={model.pairing.name(name): array for name, array in moved.tensors.items()})


def _is_timms(path: Path) -> bool:
    """Return whether a file whose names Paddle's models also use is in timm's layout, with Linear weights [out, in]."""
    source = from_file(path, Selection(option="--candidate-key", by_name=False))
    found = recognise(source.state_dict, source.name)
    return found is not None and _layout(source, found[1]) == "timm"


def _named(source: Source, variant: Variant | None) -> str:
    """Return what to call the weights: the variant, the file, and which of its sets."""
    key = source.provenance.weights_key
    chosen = [] if key in (None, TOP) else [f"({key})"]
    return " ".join([*([variant.name] if variant else []), source.name, *chosen])


def _available(reference: Reference | None, config: MixerConfig, *, of_google: bool) -> Reference:
    """Return the reference asked for, or the default one; check that the family has it and that it is installed."""
    if reference is None:
        reference = "flax" if of_google and config.family == "mixer" else "timm"
    if reference == "flax" and config.family != "mixer":
        raise UsageProblem(f"--reference flax: there is none for {config.family}. Pass --reference timm.")
    if reference == "flax" and find_spec("flax") is None:
        raise UsageProblem(
            "--reference flax: flax is not installed. Install mixer-convert[flax], or pass --reference timm."
        )
    require("torch", "timm", "scipy", *(("flax", "jax") if reference == "flax" else ()))
    return reference
