"""The layout and config of a source, and its weights in timm's layout; refused if these cannot be determined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from convert.arrays import StateDict
from convert.errors import BadInput, KeyMismatch, NoHead, NoKnownLayout, UsageProblem
from convert.family import Source
from convert.files.hints import hint
from convert.mixer.identity import agreed, check_sizes, check_variant
from convert.mixer.layouts import (
    NAMING,
    ORIGIN,
    SOURCES,
    account,
    config_of,
    fits,
    head_of,
    hint_at,
    matching,
    nearest_layout,
)
from convert.mixer.mapping import convert_state_dict
from convert.mixer.rule_tables import FROM_TIMM, Layout, covers
from convert.mixer.variants import MixerConfig, MixerKind
from convert.request import Request

OWN: dict[str, Layout] = {"torch": "timm", "paddle": "paddle"}
"""The layout to assume for a tool's own files if names and shapes fit both of these layouts, or neither."""


def layout_and_config(source: Source, request: Request) -> tuple[Layout, MixerConfig]:
    """Return the source's layout and config, by its names and shapes, what it says of itself, and what the user says.

    Raises:
        UsageProblem: Two layouts fit, or two of these contradict each other.
        BadInput: No layout fits.
    """
    said = (*source.claims, *request.claims)
    possible = _possible(source, request)
    if not NAMING.known(source.state_dict):
        raise NoKnownLayout(source.name, source.state_dict, _hint(source))
    layout = _layout(source, nearest_layout(source.state_dict, possible), possible)
    check_variant(source.name, source.claims, request.variant)
    config = _config(source, request, layout)
    check_sizes(source.name, config, source.claims)
    return layout, agreed(source.name, config, said)


def in_timm_layout(
    source: Source, request: Request, layout: Layout, config: MixerConfig
) -> tuple[StateDict, tuple[str, ...]]:
    """Return the source's weights in timm's layout, and the names of its head's tensors that are left out.

    Raises:
        BadInput: A key, shape or dtype is not that of a checkpoint of this config; or it has no head and none is drawn.
    """
    head = head_of(layout, config)
    state_dict = {key: array for key, array in source.state_dict.items() if key not in head}
    expected = request.variant.name if request.variant else f"{config.family} in {layout} layout"
    try:
        converted = convert_state_dict(state_dict, config, src=layout, dst="timm", name=source.name, expected=expected)
    except KeyMismatch as error:
        raise _mismatch(source, (layout, config.family), expected, error) from error
    if head and request.adaptation.num_classes is None:
        raise NoHead(source.name, head - source.state_dict.keys())
    return converted.state_dict, tuple(sorted(head & source.state_dict.keys()))


def _possible(source: Source, request: Request) -> Sequence[Layout]:
    """Return the layouts that the source may have, according to the user and to the source itself."""
    if source.provenance.kind == "random":
        return ("timm",)
    src = "timm" if source.provenance.kind == "hub" else request.src
    said = next((one for one in source.claims if one.layout is not None), None)
    possible = SOURCES[src] if src else (cast("Layout", said.layout),) if said else tuple(FROM_TIMM)
    if said is not None and said.layout not in possible:
        raise UsageProblem(f"--src {src}: {said.place} says that it has {said.layout}'s layout. Leave --src out.")
    if request.variant is None:
        return possible
    kind: MixerKind = request.variant.config.family
    covered = tuple(layout for layout in possible if covers(layout, kind))
    if not covered:
        raise UsageProblem(f"--src {src}: there is no such layout for {kind}. Is --variant right?")
    return covered


def _layout(source: Source, nearest: Layout, possible: Sequence[Layout]) -> Layout:
    """Return which of the layouts that share the nearest one's names it is, judged by the shapes as a whole."""
    alike = [layout for layout in possible if {nearest, layout} <= {"timm", "paddle"}]
    if len(alike) < 2:
        return nearest
    shapes, own = source.shapes, OWN.get(source.tool or "")
    fitting = [layout for layout in alike if fits(layout, shapes, source.name)]
    if own == "paddle" and fitting == ["timm"]:
        raise BadInput(
            f"{source.name}: its Linear weights are not transposed: they are [out, in], as torch has them, in a file "
            "of Paddle's. Where that is meant, pass --src timm."
        )
    if len(fitting) > 1 and own is None:
        raise UsageProblem(
            f"{source.name}: its layout could be {' or '.join(fitting)}, every Linear weight being square. Pass --src "
            "to say which."
        )
    if len(fitting) == 1:
        return fitting[0]
    nearest = max(alike, key=lambda layout: matching(layout, shapes, source.name))
    return own if own is not None else nearest


def _config(source: Source, request: Request, layout: Layout) -> MixerConfig:
    """Return the config of the variant stated, or else the one that the shapes imply."""
    shapes, config = source.shapes, cast("MixerConfig | None", request.variant and request.variant.config)
    try:
        inferred = config_of(shapes, layout, source.name)
    except BadInput as error:
        if config is not None:
            return config
        kind, missing, unexpected = account(shapes, layout)
        if not missing and not unexpected:
            raise
        expected = f"{kind} in {layout} layout"
        mismatch = KeyMismatch(source.name, missing, unexpected, expected)
        raise _mismatch(source, (layout, kind), expected, mismatch) from error
    if config is None:
        return inferred
    if source.provenance.kind == "random" and request.src == "google":  # a model like Google's, with random weights
        return replace(config, **ORIGIN["google"])
    own_head = request.adaptation.num_classes is not None or not inferred.num_classes
    return replace(
        config,
        num_classes=inferred.num_classes if own_head else config.num_classes,
        gelu=inferred.gelu,
        layer_norm_eps=inferred.layer_norm_eps,
    )


def _mismatch(source: Source, tried: tuple[Layout, MixerKind], expected: str, error: KeyMismatch) -> KeyMismatch:
    """Return the mismatch with a hint at what the file is or, failing that, at the layout its names are nearest to."""
    said = _hint(source) or hint_at(source.shapes, source.name, tried)
    return KeyMismatch(source.name, error.missing, error.unexpected, expected, said)


def _hint(source: Source) -> str:
    return hint(source.path, [*source.state_dict, *source.dropped])
