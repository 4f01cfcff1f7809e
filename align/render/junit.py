"""One result, or several, as JUnit XML, the test report that CI systems read: a case per gate, layer and check.

A point that was left out, or that has no figure with a bound, is a skipped case, and so is a check without a bound.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

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
from align.render.several import Attempt

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped. Source: https://www.w3.org/TR/xml/#charsets."""


NOT_JUDGED = "not judged, as it has no bound"
"""Reason given for a skipped case whose figures have no bound."""


def junit(data: Data, *, accept_rounding: bool = False, seconds: float | None = None) -> bytes:
    """Return the report of one result.

    Args:
        data: The result.
        accept_rounding: Whether failures behind the verdict `rounding` are shown as skipped, as the exit code has it.
        seconds: How long the comparison took, if that is known; its parts are not timed.
    """
    return _report([(list(_suites(data, accept_rounding)), seconds)])


def junit_of_several(attempts: Sequence[Attempt], *, accept_rounding: bool = False) -> bytes:
    """Return one report of all alignments, each named in its suites; an error is a suite of one case."""
    return _report([(_suites_of(attempt, accept_rounding), attempt.seconds) for attempt in attempts])


def _report(found: Sequence[tuple[list[TestSuite], float | None]]) -> bytes:
    """Return a document of each alignment's suites and of how many seconds it took."""
    report = JUnitXml("mixer-align")
    for suite in [suite for suites, _ in found for suite in suites]:
        report.add_testsuite(suite)
    report.update_statistics()  # type: ignore[no-untyped-call]
    _timed(report, found)
    stream = io.BytesIO()
    report.write(stream, pretty=True)
    return stream.getvalue()


def _suites(data: Data, accept_rounding: bool) -> Iterator[TestSuite]:
    accepted = accept_rounding and data["verdict"] == "rounding"
    gates = [_case(data, "gates", gate["name"], *_of_gate(gate), accepted) for gate in data["gates"]]
    yield _suite(data, "gates", gates)
    layers = [_case(data, "layers", name, skipped, said, accepted) for name, skipped, said in _layers(data)]
    layers += [_case(data, "layers", name, True, why, False) for name, why in data["left_out"].items()]
    if layers:
        yield _suite(data, "layers", layers)
    for section in data["sections"]:
        name, checks = section["gate"]["name"], section["checks"]
        cases = [_case(data, name, _title(check), *_of_check(check), False) for check in checks]
        if cases:
            yield _suite(data, name, cases)


def _suites_of(attempt: Attempt, accept_rounding: bool) -> list[TestSuite]:
    suites = [_ended_early(attempt)] if attempt.data is None else _suites(attempt.data, accept_rounding)
    return [_named(suite, attempt.name) for suite in suites]


def _ended_early(attempt: Attempt) -> TestSuite:
    case = TestCase("ends with a verdict", "mixer-align.error")
    case.result = [Error(_text(attempt.error), f"exit code {attempt.exit_code}")]
    suite = TestSuite("mixer-align.error")
    suite.add_testcase(case)
    return suite


def _named(suite: TestSuite, name: str) -> TestSuite:
    """Return the suite with a name inserted in its own name and in its cases' class names."""
    prefix = f"mixer-align.{_text(name)}"
    suite.name = prefix + str(suite.name).removeprefix("mixer-align")
    for case in suite:
        case.classname = prefix + str(case.classname).removeprefix("mixer-align")
    return suite


def _timed(report: JUnitXml, found: Sequence[tuple[list[TestSuite], float | None]]) -> None:
    """Set the times of the report and of each alignment's first suite; what was not timed has none."""
    for timed in (report, *report):
        if "time" in timed._elem.attrib:
            del timed._elem.attrib["time"]
    known = [(suites[0], seconds) for suites, seconds in found if seconds is not None]
    for suite, seconds in known:
        suite.time = round(seconds, 3)
    if known:
        report.time = round(sum(seconds for _, seconds in known), 3)


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
    """Return whether a gate was skipped, and what to say about it."""
    return gate["passed"] is None, "" if gate["passed"] else gate["sentence"]


def _layers(data: Data) -> Iterator[tuple[str, bool, str]]:
    """Yield each layer, whether it is skipped, and what to say about it; the first divergence is always included."""
    for layer in data["layers"]:
        skipped = not any(is_judged(diff) for _, _, diff in diffs(layer))
        yield layer["name"], skipped, NOT_JUDGED if skipped else failure_of(data, layer)
    where = failing_layer(data)
    if where and where not in {layer["name"] for layer in data["layers"]}:
        yield where, False, data["first_divergence"]["sentence"]


def _title(check: Data) -> str:
    return f"{check['name']} at {check['layer']}" if check["layer"] else check["name"]


def _of_check(check: Data) -> tuple[bool, str]:
    """Return whether a check was skipped, and what to say about it."""
    if check["passed"]:
        return (False, "") if is_judged(check) else (True, f"{NOT_JUDGED}: {check['figure']}")
    said = compared(check["figure"], check["bound"], passed=False)
    return False, ", ".join(filter(None, (f"{_title(check)}: {said}", check["detail"])))


def _text(value: object) -> str:
    return NOT_XML.sub("\ufffd", str(value))
