"""One result as JUnit XML, the test report that CI systems read: a case per gate, layer and check.

A point that was left out is a skipped one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from align.render.data import Data, accepted_rows, compared, failing_layer, failure_of, without_witness

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped. Source: https://www.w3.org/TR/xml/#charsets."""


def junit(data: Data, *, accept_rounding: bool = False) -> bytes:
    """Return the report.

    Args:
        data: The result.
        accept_rounding: Show what the verdict `rounding` stands on as skipped, not failed, as the exit code has it.
    """
    accepted = accept_rounding and data["verdict"] == "rounding"
    report = JUnitXml("mixer-align")
    gates = [_case(data, "gates", gate["name"], *_of_gate(gate), accepted) for gate in data["gates"]]
    report.add_testsuite(_suite(data, "gates", gates))
    layers = [_case(data, "layers", name, False, sentence, accepted) for name, sentence in _layers(data)]
    layers += [_case(data, "layers", name, True, why, False) for name, why in data["left_out"].items()]
    if layers:
        report.add_testsuite(_suite(data, "layers", layers))
    for section in data["sections"]:
        name, checks = section["gate"]["name"], section["checks"]
        cases = [_case(data, name, _title(check), False, _of_check(check), False) for check in checks]
        if cases:
            report.add_testsuite(_suite(data, name, cases))
    report.update_statistics()  # type: ignore[no-untyped-call]
    stream = io.BytesIO()
    report.write(stream, pretty=True)
    return stream.getvalue()


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
    case = TestCase(_text(name), f"mixer-align.{group}", 0.0)
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


def _layers(data: Data) -> Iterator[tuple[str, str]]:
    """Yield each layer with what is wrong there; the first divergence even where no layer could be measured."""
    for layer in data["layers"]:
        yield layer["name"], failure_of(data, layer)
    where = failing_layer(data)
    if where and where not in {layer["name"] for layer in data["layers"]}:
        yield where, data["first_divergence"]["sentence"]


def _title(check: Data) -> str:
    return f"{check['name']} at {check['layer']}" if check["layer"] else check["name"]


def _of_check(check: Data) -> str:
    if check["passed"]:
        return ""
    said = compared(check["figure"], check["bound"], passed=False)
    return ", ".join(filter(None, (f"{_title(check)}: {said}", check["detail"])))


def _text(value: object) -> str:
    return NOT_XML.sub("\ufffd", str(value))
