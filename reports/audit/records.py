"""The JSON files of a bundle as records, read without trust: every field present, of its type, written as we do.

The types are the contract: `schema_of` returns each file's as JSON Schema (draft 2020-12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from align.core.result import AlignmentResult
from align.figures.reader import Malformed
from align.render.data import SCHEMA as ALIGNMENT_SCHEMA
from align.render.data import as_data
from convert.errors import printable
from convert.files import strict_json
from reports.audit.bundle import Files, as_json
from reports.audit.difference import difference
from reports.audit.names import ALIGNMENTS, CONVERSIONS, ENVIRONMENT, MANIFEST, REPORT
from reports.render.conversion import Manifest, StatedConversion
from reports.render.environment import Environment
from reports.render.report import AuditReport, Subject
from reports.score.evaluation_report import EvaluationReport

Record = TypeVar("Record")
RECORDS: dict[str, type] = {"audit": AuditReport, "environment": Environment, "evaluation": EvaluationReport}
"""The record types whose JSON Schema `schema_of` returns, by name."""


class NotOfItsForm(Malformed):
    """A file does not have the form that it should have; file is its name."""

    def __init__(self, file: str, what: str) -> None:
        super().__init__(what)
        self.file = file


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The records of a bundle's JSON files."""

    report: AuditReport
    environment: Environment
    conversions: Mapping[Subject, StatedConversion]
    alignments: Mapping[Subject, AlignmentResult]
    manifest: Manifest | None


def read_records(files: Files) -> Records:
    """Return the records of a bundle's JSON files.

    Raises:
        NotOfItsForm: A file is not JSON, lacks a field, has one too many, or one of another type.
    """
    report = _exactly(AuditReport, REPORT, files)
    return Records(
        report=report,
        environment=_exactly(Environment, ENVIRONMENT, files),
        conversions={subject: _read(StatedConversion, name, files)[0] for subject, name in CONVERSIONS.items()},
        alignments={subject: _alignment(name, files) for subject, name in ALIGNMENTS.items()},
        manifest=_read(Manifest, MANIFEST, files)[0] if report.lineage.manifest else None,
    )


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a file, by its name in RECORDS."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_adapter(RECORDS[name]).json_schema()}


def record_of(kind: type[Record], data: Mapping[str, Any], name: str = "") -> Record:
    """Return plain data as a record.

    Raises:
        NotOfItsForm: A field is missing, or of another type.
    """
    try:
        return _adapter(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise NotOfItsForm(name, printable(f"{where}: {first['msg']}")) from error


def _alignment(name: str, files: Files) -> AlignmentResult:
    result, data = _read(AlignmentResult, name, files)
    if data.get("schema") != ALIGNMENT_SCHEMA:
        raise NotOfItsForm(name, f"its schema is {printable(repr(data.get('schema')))}, not {ALIGNMENT_SCHEMA!r}")
    _check_written(name, files, as_data(result), data)
    return result


def _exactly(kind: type[Record], name: str, files: Files) -> Record:
    record, data = _read(kind, name, files)
    _check_written(name, files, asdict(record), data)  # type: ignore[call-overload]
    return record


def _check_written(name: str, files: Files, again: Any, data: Any) -> None:
    """Check that a file is, byte for byte, what its record is written as, so that it has exactly its fields."""
    written = as_json(again)
    if written != files[name]:
        where = difference(strict_json.parse(written), data, rtol=0.0)
        raise NotOfItsForm(name, f"{where or 'something'} is not as we write it")


def _read(kind: type[Record], name: str, files: Files) -> tuple[Record, dict[str, Any]]:
    """Return a file's record, and its plain data."""
    if name not in files:
        raise NotOfItsForm(name, "it is missing, and so is its checksum")
    try:
        data = strict_json.parse(files[name])
        if not isinstance(data, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise NotOfItsForm(name, printable(str(error))) from error
    return record_of(kind, data, name), data


def _adapter(kind: type[Record]) -> TypeAdapter[Record]:
    return _cached(cast("Any", kind))


@cache
def _cached(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
