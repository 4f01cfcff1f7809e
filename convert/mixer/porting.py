"""Convert a vision MLP's weights: from their own layout to timm's, in which they are adapted, to the one requested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from convert.engine import Conversion, check_one_dtype
from convert.errors import UsageProblem
from convert.family import Port, Source
from convert.mixer.adapt import adapt, keeps_head, refuse_image_size
from convert.mixer.identity import OPTIONS, unsaid
from convert.mixer.layouts import ORIGIN, SOURCES
from convert.mixer.mapping import convert_state_dict
from convert.mixer.recognition import in_timm_layout, layout_and_config
from convert.mixer.rule_tables import Layout, covers, route
from convert.mixer.variants import MixerConfig
from convert.request import Request

TANH_NOTE = "Google trained these weights with the tanh GELU; build the model with it"
ERF_NOTE = (
    "Google trained these weights with the tanh GELU; with erf the model is another function, whose logits lie about "
    "1e-4 away on B/16 with random weights"
)


def port(source: Source, request: Request) -> Port:
    """Return a source in the requested layout, checked except for its values, as `convert.family.Family.port` says."""
    dst = cast("Layout", request.dst)
    layout, own = layout_and_config(source, request)
    if not covers(dst, own.family):
        raise UsageProblem(f"--dst {dst}: there is no {dst} layout for {own.family}. Choose another.")
    if request.image_size is not None:
        refuse_image_size(own, request.image_size)
    wanted = request.adaptation
    kept = own if keeps_head(own, wanted) else replace(own, num_classes=0)
    in_timm, dropped = in_timm_layout(source, request, layout, kept)
    adapted = adapt(in_timm, kept, wanted)
    check_one_dtype(adapted.state_dict, source.name)
    converted = convert_state_dict(adapted.state_dict, adapted.config, src="timm", dst=dst)
    renames = route(layout, dst, kept)
    filled = {rule.target for rule in renames}
    conversion = Conversion(
        state_dict=converted.state_dict,
        renames=renames,
        adapted={
            rule.target: adapted.changes[rule.source] for rule in converted.renames if rule.source in adapted.changes
        },
        added=tuple(rule.target for rule in converted.renames if rule.target not in filled),
        dropped=dropped,
    )
    assumed = _assumed(source, request, layout, own)
    notes = (*_notes(source, request, layout, own, dropped), *([assumed] if assumed else []))
    return Port(
        source=source, config=adapted.config, layout=layout, conversion=conversion, notes=notes, assumed=assumed
    )


def _notes(
    source: Source, request: Request, layout: Layout, config: MixerConfig, dropped: tuple[str, ...]
) -> Iterator[str]:
    """Yield notes for the user on how the weights were read."""
    yield from source.notes
    if layout == "google":
        yield TANH_NOTE if config.gelu == "tanh" else ERF_NOTE
    elif choices := ORIGIN.get(layout):
        said = " and ".join(f"{choice} {getattr(config, choice)}" for choice in choices)
        yield f"models in {layout} layout have {said}; build this one with it"
    if dropped:
        yield f"its own head is left out ({', '.join(dropped)})"
    elif request.adaptation.num_classes is not None and config.num_classes:
        yield f"it has {config.num_classes} classes already, so its own head is kept"


def _assumed(source: Source, request: Request, layout: Layout, config: MixerConfig) -> str:
    """Return a sentence on what nothing says of the config; layouts other than Paddle's say it by their origin."""
    unknown = unsaid((*source.claims, *request.claims))
    if not unknown or layout not in SOURCES["paddle"] or source.path is None:
        return ""
    values = " and ".join(f"{choice} {getattr(config, choice)}" for choice in unknown)
    options = " or ".join(OPTIONS[choice] for choice in unknown)
    return (
        f"nothing says which {' and '.join(unknown)} {source.name} is for: timm's, {values}, assumed ({options} says)"
    )
