"""One result as JUnit XML, the test report that CI systems read: a case per gate, layer and check.

A point that was left out and a figure that has no bound are skipped ones.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from align.render.data import (
    Data,
    accepted_rows,
    compared,
    diffs,
    failing_layer,
    failure_of,
    is_judged,
    without_witness,
)

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped. Source: https://www.w3.org/TR/xml/#charsets."""


NOT_JUDGED = "not judged, as it has no bound"
"""Why a figure is skipped."""


def junit(data: Data, *, accept_rounding: bool = False, seconds: float | None = None) -> bytes:
    """Return the report.

    Args:
        data: The result.
        accept_rounding: Show what the verdict `rounding` stands on as skipped, not failed, as the exit code has it.
        seconds: How long the comparison took, where that is known; the parts of it are not measured.
    """
    accepted = accept_rounding and data["verdict"] == "rounding"
    report = JUnitXml("mixer-align")
    gates = [_case(data, "gates", gate["name"], *_of_gate(gate), accepted) for gate in data["gates"]]
    report.add_testsuite(_suite(data, "gates", gates))
    layers = [_case(data, "layers", name, skipped, said, accepted) for name, skipped, said in _layers(data)]
    layers += [_case(data, "layers", name, True, why, False) for name, why in data["left_out"].items()]
    if layers:
        report.add_testsuite(_suite(data, "layers", layers))
    for section in data["sections"]:
        name, checks = section["gate"]["name"], section["checks"]
        cases = [_case(data, name, _title(check), *_of_check(check), False) for check in checks]
        if cases:
            report.add_testsuite(_suite(data, name, cases))
    report.update_statistics()  # type: ignore[no-untyped-call]
    _timed(report, seconds)
    stream = io.BytesIO()
    report.write(stream, pretty=True)
    return stream.getvalue()


def _timed(report: JUnitXml, seconds: float | None) -> None:
    """Say how long the whole took, and that the suite of gates did; what was not measured has no time."""
    for timed in (report, *report):
        if "time" in timed._elem.attrib:
            del timed._elem.attrib["time"]
    if seconds is not None:
        report.time = round(seconds, 3)
        next(iter(report)).time = round(seconds, 3)


def _suite(data: Data, name: str, cases: list[TestCase]) -> TestSuite:
    suite = TestSuite(f"mixer-align.{name}")
    settings = {key: value for key, value in data["settings"].items() if not isinstance(value, dict)}
    properties = {
        "variant": data["variant"],
        "verdict": data["verdict"],
        "witness": without_witness(data) or "compared",
        "accepted": "; ".join(" ".join(row) for row in accepted_rows(data)) or "none",
        "input_sha256": data["input_sha256"],
        **settings,
        **data["environment"].get("versions", {}),
    }
    for key, value in properties.items():
        suite.add_property(key, _text(value))
    suite.add_testcases(cases)
    return suite


def _case(data: Data, group: str, name: str, skipped: bool, sentence: str, accepted: bool) -> TestCase:
    case = TestCase(_text(name), f"mixer-align.{group}")
    if skipped or (sentence and accepted):
        case.result = [Skipped(_text(sentence))]
    elif sentence:
        failure = Failure(_text(sentence), str(data["verdict"]))
        failure.text = _text(sentence)
        case.result = [failure]
    return case


def _of_gate(gate: Data) -> tuple[bool, str]:
    """Return whether a gate was skipped, and what is to be said about it."""
    return gate["passed"] is None, "" if gate["passed"] else gate["sentence"]


def _layers(data: Data) -> Iterator[tuple[str, bool, str]]:
    """Yield each layer, whether nothing of it is judged, and what is to be said; the first divergence at any rate."""
    for layer in data["layers"]:
        skipped = not any(is_judged(diff) for _, _, diff in diffs(layer))
        yield layer["name"], skipped, NOT_JUDGED if skipped else failure_of(data, layer)
    where = failing_layer(data)
    if where and where not in {layer["name"] for layer in data["layers"]}:
        yield where, False, data["first_divergence"]["sentence"]


def _title(check: Data) -> str:
    return f"{check['name']} at {check['layer']}" if check["layer"] else check["name"]


def _of_check(check: Data) -> tuple[bool, str]:
    """Return whether a check was skipped, and what is to be said about it."""
    if check["passed"]:
        return (False, "") if is_judged(check) else (True, f"{NOT_JUDGED}: {check['figure']}")
    said = compared(check["figure"], check["bound"], passed=False)
    return False, ", ".join(filter(None, (f"{_title(check)}: {said}", check["detail"])))


def _text(value: object) -> str:
    return NOT_XML.sub("\ufffd", str(value))
