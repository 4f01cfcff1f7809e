"""Check that an alignment in a bundle is about the bundle's weights and follows from its own figures. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from align.core.bounds import explained_by
from align.core.case import Settings
from align.core.inputs import images_sha256, seeded_images
from align.core.result import AlignmentResult, Check, GateName, Sides
from align.figures.reader import Malformed, Reader
from align.figures.rejudge import rejudged, roundings_of
from align.figures.sections import (
    ALONE,
    ANOTHER_BATCH,
    CALLED,
    CHANGED,
    FURTHER_BITS,
    OTHER_WEIGHTS,
    REPEATS,
    RETURNED,
)
from align.mixer.config_data import read_config
from align.mixer.points import LOGITS, points_of
from convert.mixer.variants import MixerConfig
from reports.render.environment import Environment
from reports.score.records import WeightsIdentity

SIDES = Sides(reference="torch", candidate="Paddle", headline=LOGITS)
MOST_PIXELS = 1 << 24
"""Most values in an alignment's images, so that a bundle cannot ask for any amount; two of 224 by 224 have 2^18."""

CHECKS: dict[GateName, tuple[tuple[str, float | None], ...]] = {
    "determinism": ((f"torch, {REPEATS}", 0), (f"Paddle, {REPEATS}", 0)),
    "output": ((f"Paddle {RETURNED}", 0),),
    "batch": ((f"{LOGITS} {ANOTHER_BATCH}", None),),
    "stress": ((ALONE, 1), (CALLED, None)),
    "state": ((CHANGED, 0), (FURTHER_BITS, 0)),
    "redrawn": ((f"{LOGITS} {OTHER_WEIGHTS}", None),),
}
"""The gates beyond the forward's four, in order: the subject of each check, and its bound where that is fixed.

For a large model no further forwards are run, so `state` may lack its second check.
"""


DETAIL = re.compile(r"(image \d+ (alone|with one other|in another order|among others))?")
"""Details that a check of a passed gate may give with its figure: the image of the batch that differs most, if any."""


def said_of(weights: WeightsIdentity) -> dict[str, object]:
    """Return how an alignment identifies the weights that it is about."""
    return {"fingerprint": weights.fingerprint, "sha256": weights.sha256}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedAlignment:
    """An alignment of a bundle, with the weights and the environment that it has to be about."""

    found: AlignmentResult
    weights: WeightsIdentity
    environment: Environment

    def again(self) -> AlignmentResult:
        """Return what the alignment has to be, given its figures, its weights and its environment.

        Raises:
            Malformed: Its config is invalid, or a figure or a check is not one that a comparison gives.
        """
        settings, config = Settings(), checked_config(self.weights.config)
        shape = (settings.batch, config.in_chans, config.image_size, config.image_size)
        inputs = seeded_images(shape, settings.input_seed, settings.inputs)
        about = {"reference": "timm", "config": asdict(config), "weights": said_of(self.weights), "recipes": []}
        result = replace(
            self.found,
            variant=self.weights.name,
            sides=SIDES,
            left_out={},
            accepted={},
            input_sha256=images_sha256(inputs),
            settings={**asdict(settings), **about},
            environment={**self.found.environment, **self._circumstances()},
        )
        points = points_of(config, settings.batch)
        again = rejudged(result, points, settings.atol)
        self._check_sections({point.name for point in points})
        return again

    def _circumstances(self) -> dict[str, object]:
        """Return where the alignment ran, according to the bundle's environment."""
        here = self.environment
        named = self.found.environment.get("versions")
        versions = {name: here.versions.get(name) for name in named} if isinstance(named, dict) else here.versions
        same = {name: getattr(here, name) for name in ("platform", "processor", "cpus", "knobs")}
        return {"versions": versions, **same, "device": "cpu"}

    def _check_sections(self, points: Collection[str]) -> None:
        names = [section.gate.name for section in self.found.sections]
        if names != list(CHECKS):
            raise Malformed(f"its gates beyond the forward's are {', '.join(names) or 'none'}, not {', '.join(CHECKS)}")
        if not self.found.layers:
            return
        for section in self.found.sections:
            if section.gate.passed is None or (section.gate.passed and not section.checks):
                raise Malformed(f"gate {section.gate.name} was not run, and every one is")
            if not all(check.layer in ("", *points) for check in section.checks):
                raise Malformed(f"gate {section.gate.name}: it names a layer that there is none of")
            if section.gate.passed:
                if not all(DETAIL.fullmatch(check.detail) for check in section.checks):
                    raise Malformed(f"gate {section.gate.name}: it passed, and says more than its figures")
                wanted = CHECKS[section.gate.name]
                for (subject, bound), check in zip(wanted, section.checks, strict=False):
                    self._check(section.gate.name, check, subject, bound)
                least = 1 if section.gate.name == "state" else len(wanted)
                if len(section.checks) < least:
                    raise Malformed(f"gate {section.gate.name} has {len(section.checks)} of its {least} checks")

    def _check(self, gate: GateName, check: Check, subject: str, bound: float | None) -> None:
        """Check the subject and the bound of a check of a passed gate."""
        if check.subject != subject:
            raise Malformed(f"gate {gate}: it looked at {check.subject!r}, not at {subject!r}")
        if bound is not None and check.bound != bound:
            raise Malformed(f"gate {gate}: its bound is {check.bound}, not {bound}")
        if subject != CALLED and check.bound is None:
            raise Malformed(f"gate {gate}: it has no bound")
        if gate == "batch" and not any(low <= (check.bound or 0) <= high for low, high in self._batch_bounds()):
            raise Malformed(f"gate batch: its bound {check.bound} does not follow from the logits")

    def _batch_bounds(self) -> Iterator[tuple[float, float]]:
        """Yield the range that the batch gate's bound lies in: the candidate's largest logit is not in the figures."""
        headline = self.found.headline
        if headline is None:
            return
        explained = explained_by(roundings_of(self.found).found.get(headline.name, 0.0), "float32")
        scale, apart = headline.float32.inherited.scale, headline.float32.inherited.max_abs_diff
        yield tuple(explained.bound(np.nextafter(scale + sign * apart, sign * np.inf)) for sign in (-1, 1))  # type: ignore[misc]


def checked_config(config: MixerConfig) -> MixerConfig:
    """Return the config, checked to be one of a vision MLP whose images have at most MOST_PIXELS values.

    Raises:
        Malformed: It is not.
    """
    batch = Settings().batch
    found = read_config(Reader(asdict(config), "its config"), batch)
    if batch * found.in_chans * found.image_size**2 > MOST_PIXELS:
        raise Malformed("its config asks for larger images than any vision MLP takes")
    return found
