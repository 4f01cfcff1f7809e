"""Check a bundle: every hash, then every statistic, recomputed from the per-image file, then all that follows.

What does not follow from anything in the bundle is listed in docs/audit-bundle.md; only a rerun can check it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from align.figures.reader import Malformed
from align.render.data import as_data
from convert.errors import IntegrityProblem, Unreadable
from convert.files import strict_json
from convert.mixer.variants import VARIANTS
from reports.audit.alignments import StatedAlignment
from reports.audit.bundle import ENVELOPE, HeldFiles, as_json, read_bundle
from reports.audit.conversions import check_conversion
from reports.audit.derived import derived
from reports.audit.difference import difference
from reports.audit.names import (
    ALIGNMENTS,
    CONVERSIONS,
    ENVIRONMENT,
    MANIFEST,
    PREDICTIONS,
    RENDERED,
    REPORT,
    STATEMENT,
    names_of,
)
from reports.audit.records import NotOfItsForm, Records, read_records
from reports.data.cifar10 import ARCHIVE_SHA256, CLASSES
from reports.data.preprocess import ASKED, ASSUMED, imagenet, of_variant
from reports.data.thumbnails import pixels
from reports.render.report import UNCERTAIN, Facts, Subject, facts_of, report_of
from reports.score.accuracy import Predictions
from reports.score.devices import DEVICE
from reports.score.predictions import parse_predictions
from reports.score.records import AGREEMENT_ATOL, EngineUse, WeightsIdentity

NAMELESS = (*RENDERED, STATEMENT, ENVELOPE)
"""Files that the Statement does not list, or whose digests are taken from a fresh rendering."""

ADVICE = "Get the bundle again, or audit again."


class Bundle:
    """A verified bundle: its report, environment, predictions and facts; `signature.check` checks its envelope."""

    def __init__(self, path: Path) -> None:
        """Read and verify a bundle.

        Raises:
            IOProblem: There is no such folder.
            BadInput: It is not a bundle, or holds what no bundle may hold (see `read_bundle`).
            IntegrityProblem: A file was changed, removed or added, or does not follow from the others.
        """
        self.path = path
        self._held = read_bundle(path, {*names_of(manifest=True), ENVELOPE})
        self.envelope = self._held.files.pop(ENVELOPE, None)
        try:
            self._records = read_records(self._held.files)
        except NotOfItsForm as wrong:
            raise self._problem(wrong.file, str(wrong)) from wrong
        self.report, self.environment = self._records.report, self._records.environment
        self._check_names(self._held)
        self.predictions = self._read_predictions()
        self._check_conversions(self._records)
        self._check_alignments(self._records)
        self._check_identity(self._records)
        self._check_circumstances()
        self.facts = self._facts()
        self._check_report()
        self._check_derived()
        self.statement = self._held.files[STATEMENT]

    def _check_names(self, held: HeldFiles) -> None:
        own, attached = names_of(manifest=self.report.lineage.manifest), self.report.attached
        if taken := sorted({*attached} & {*names_of(manifest=True), ENVELOPE}):
            raise self._problem(REPORT, f"attached: {taken[0]} is a file of the bundle's own")
        expected = own | set(attached)
        if missing := sorted(expected - held.sha256s.keys()):
            raise self._problem(missing[0], "it is missing, and so is its checksum")
        if extra := sorted(held.sha256s.keys() - expected - {ENVELOPE}):
            raise self._problem(extra[0], "it was added with a checksum; a bundle has no such file")

    def _read_predictions(self) -> Predictions:
        try:
            found = parse_predictions(self.path / PREDICTIONS, self._held.files[PREDICTIONS])
        except Unreadable as error:
            raise IntegrityProblem(str(error)) from error
        answers = [found.labels, found.predictions]
        answers += [] if found.reference_predictions is None else [found.reference_predictions]
        if not len(found) or any(a.min() < 0 or a.max() >= len(CLASSES) for a in answers):
            raise self._problem(PREDICTIONS, "it has no images, or a class out of range")
        figures = [found.margins, found.losses, *([] if found.logit_diffs is None else [found.logit_diffs])]
        if not all(np.isfinite(figure).all() and (figure >= 0).all() for figure in figures):
            raise self._problem(PREDICTIONS, "a margin, loss or difference is negative or not finite")
        return found

    def _check_conversions(self, records: Records) -> None:
        for subject, found in records.conversions.items():
            try:
                check_conversion(found, self._weights(subject), self.environment.versions)
            except Malformed as wrong:
                raise self._problem(CONVERSIONS[subject], str(wrong)) from wrong

    def _check_alignments(self, records: Records) -> None:
        for subject, found in records.alignments.items():
            name = ALIGNMENTS[subject]
            about = StatedAlignment(found=found, weights=self._weights(subject), environment=self.environment)
            try:
                again = about.again()
            except Malformed as wrong:
                raise self._problem(name, str(wrong)) from wrong
            where = None if again == found else difference(_loaded(as_data(again)), _loaded(as_data(found)), rtol=0.0)
            if where is not None:
                raise self._problem(name, f"{where} is not what follows from its figures and from the other files")

    def _check_identity(self, records: Records) -> None:
        """Check that the manifest is about these weights, and that data.canonical follows from the archive's hash."""
        report, manifest = records.report, records.manifest
        origin = report.data
        if origin.sha256 and origin.canonical != (origin.sha256 == ARCHIVE_SHA256[origin.version]):
            raise self._problem(REPORT, "data.canonical does not follow from the archive's hash")
        if manifest is None:
            return
        of_file = records.conversions["finetuned"].fingerprints[0]
        if not manifest.output.fingerprint == of_file == (manifest.fingerprint if manifest.tensors else of_file):
            raise self._problem(MANIFEST, "it is about other weights")
        if manifest.output.sha256 not in (None, report.weights.sha256):
            raise self._problem(MANIFEST, "it is about another file")
        if manifest.config and manifest.config != asdict(report.weights.config):
            raise self._problem(MANIFEST, "its config is not that of the weights")
        named = manifest.variant.name if manifest.variant else None
        if manifest.source is not None and manifest.source.kind == "random":
            expected = None
        else:
            expected = named or report.weights.upstream
        if report.weights.upstream != expected:
            raise self._problem(REPORT, f"weights.upstream is not what {MANIFEST} says")

    def _check_circumstances(self) -> None:
        """Check that engine, preprocessing and environment are ones that an audit can have."""
        report, environment, engine = self.report, self.environment, self.report.engine
        alone = (engine.precision, engine.processes, engine.threads) == ("float32", 1, environment.threads)
        if not alone or not self._agrees(engine):
            raise self._problem(REPORT, "engine is not one that an audit has, or did not agree with the eager model")
        if report.weights.weights_key != environment.inputs.weights_key:
            raise self._problem(ENVIRONMENT, "inputs.weights_key is not the set of weights that was taken")
        if environment.seeds != {"alignment_images": 0}:
            raise self._problem(ENVIRONMENT, "the images of the gates have another seed")
        upstream, found = report.weights.upstream, report.preprocessing
        size = report.weights.config.image_size
        known = [imagenet(size, ASKED), imagenet(size, ASSUMED)]
        known += [replace(report.published.preprocessing, image_size=size)] if report.published else []
        known += [of_variant(variant, size) for variant in VARIANTS if variant.name == upstream]
        if found not in known:
            raise self._problem(REPORT, "preprocessing is neither the row's nor the variant's nor ImageNet's")

    def _agrees(self, engine: EngineUse) -> bool:
        """Return whether the predictor's first batch agreed with eager's; for eager, whether there is no such check."""
        check, predicts = engine.first_batch, engine.name == "inference"
        if check is None or not predicts:
            return check is None and not predicts and bool(DEVICE.fullmatch(self.environment.device))
        images = min(engine.batch_size, len(self.predictions))
        right = check.max_abs_diff <= check.bound and check.bound >= AGREEMENT_ATOL and check.images == images
        return right and self.environment.device == "cpu"

    def _facts(self) -> Facts:
        records, images = self._records, self.report.uncertain
        if len(images) != min(UNCERTAIN, len(self.predictions)):
            raise self._problem(REPORT, f"it shows {len(images)} images")
        for image in images:
            try:
                pixels(image.png)
            except (ValueError, OSError, SyntaxError) as error:
                raise self._problem(REPORT, f"image {image.index} is no PNG") from error
        return facts_of(
            records.report,
            self.predictions,
            conversions=records.conversions,
            alignments=records.alignments,
            manifest=records.manifest,
        )

    def _check_report(self) -> None:
        where = difference(_plain(report_of(self.facts)), _plain(self.report))
        if where is not None:
            raise self._problem(REPORT, f"{where} is not what follows from the other files")

    def _check_derived(self) -> None:
        given = {name: digest for name, digest in self._held.sha256s.items() if name not in NAMELESS}
        again = derived(self.report, self.environment, self.facts.alignments, given)
        for name, content in again.items():
            if self._held.files[name] != content:
                made = self.environment.versions.get("mixer-convert")
                raise self._problem(name, f"it does not follow from report.json (made by mixer-convert {made})")

    def _weights(self, subject: Subject) -> WeightsIdentity:
        return self.report.source if subject == "source" else self.report.weights

    def _problem(self, name: str, what: str) -> IntegrityProblem:
        return IntegrityProblem(f"{self.path}: {name}: {what}. {ADVICE}")


def _plain(record: Any) -> Any:
    return _loaded(asdict(record))


def _loaded(data: Any) -> Any:
    """Return data as it comes back from JSON."""
    return strict_json.parse(as_json(data))
