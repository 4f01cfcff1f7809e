"""Check that a conversion in a bundle is one of the bundle's weights by our rules. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import cast, get_args

from align.figures.reader import Malformed
from convert.mixer.rule_tables import Layout, layout_shapes, route
from convert.mixer.variants import VARIANTS, MixerConfig
from convert.rules import Transform
from reports.audit.alignments import checked_config
from reports.render.conversion import StatedConversion, StatedVariant, Tensor
from reports.score.records import WeightsIdentity

LAYOUTS = get_args(Layout)


def check_conversion(found: StatedConversion, weights: WeightsIdentity, versions: Mapping[str, str | None]) -> None:
    """Check that a conversion's tensors are those that our rules give, and that it is about these weights.

    Raises:
        Malformed: Something does not match; the text says what.
    """
    config, layouts = checked_config(weights.config), found.layouts
    if not {layouts.source, layouts.target} <= {*LAYOUTS}:
        raise Malformed(f"there is no layout {layouts.source} or {layouts.target}")
    source, target = cast("Layout", layouts.source), cast("Layout", layouts.target)
    for wanted, tensor in zip_longest(_expected(config, source, target), found.tensors):
        if tensor is None or wanted is None or wanted != _told(tensor):
            raise Malformed(f"tensor {(tensor and tensor.target) or (wanted and wanted[1])} is not that of our rules")
        _check_bits(tensor)
    if found.fingerprints != (found.source.fingerprint, found.output.fingerprint):
        raise Malformed("its fingerprints are not those of its tensors")
    if weights.fingerprint not in found.fingerprints:
        raise Malformed("it is about other weights: another fingerprint")
    dtypes = ", ".join(sorted({tensor.dtype for tensor in found.tensors}))
    said = (found.config, found.source.name, found.source.sha256, found.weights_key, found.notes, dtypes)
    if said != (config, weights.name, weights.sha256, weights.weights_key, weights.notes, weights.dtype):
        raise Malformed("config, name, SHA-256, set of weights, notes or dtype are not those of the weights")
    if found.source.weights_key != weights.weights_key or found.variant not in _variants(found, weights):
        raise Malformed("its variant or its set of weights is another than the weights'")
    if found.output.file is not None or found.command_line:
        raise Malformed("it was made in memory, by no command of its own")
    if any(versions.get(name) != version for name, version in found.versions.items()):
        raise Malformed("its versions are not those of environment.json")


def _variants(found: StatedConversion, weights: WeightsIdentity) -> list[StatedVariant | None]:
    """Return the variants it may name: the upstream's, or for random weights without one any variant or none."""
    named = [StatedVariant(name=one.name, timm_id=one.timm_id, note=one.note) for one in VARIANTS]
    if found.random and weights.upstream is None:
        return [*named, None]
    return [one for one in named if one.name == weights.upstream] or [None]


Told = tuple[str | None, str, str | None, tuple[int, ...] | None, tuple[int, ...], str | None]


def _expected(config: MixerConfig, source: Layout, target: Layout) -> Iterator[Told]:
    """Yield what the manifest has to say of each tensor, apart from its dtype and its bits, in the target's order."""
    before, after = layout_shapes(config, source), layout_shapes(config, target)
    rules = {rule.target: rule for rule in route(source, target, config)}
    for key, shape in after.items():
        rule = rules[key]
        yield rule.source, key, rule.transform.value, before[rule.source], shape, None


def _told(tensor: Tensor) -> Told:
    shapes = (tensor.source_shape, tensor.target_shape)
    return (tensor.source, tensor.target, tensor.transform, *shapes, tensor.adapted)


def _check_bits(tensor: Tensor) -> None:
    if tensor.dtype != tensor.source_dtype:
        raise Malformed(f"tensor {tensor.target}: it has another dtype than before")
    if tensor.transform == Transform.IDENTITY.value and tensor.source_sha256 != tensor.target_sha256:
        raise Malformed(f"tensor {tensor.target}: it is as before, and has another SHA-256")
